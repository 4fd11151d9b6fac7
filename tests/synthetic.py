"""Plausible tables with sidecars, as the paper's figures look, without running a network."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from tf_vitcnn import taps
from tf_vitcnn.tables.write import write_table


def vit_taps(blocks=6):
    inner = [site for site in taps.BLOCK if not site.startswith(("tokenmix", "chanmix"))]
    names = [f"block{b:02d}/{site}" for b in range(blocks) for site in inner]
    return ["stem/embed", "stem/tokens", *names, "final/ln/out", "head/pooled", "head/logits"]


def bit_taps(units=(1, 2, 2, 2)):
    names = [
        f"stage{s}/unit{u:02d}/{site}"
        for s, count in enumerate(units, 1)
        for u in range(count)
        for site in taps.UNIT
        if site != "skip/out" or u == 0
    ]
    return ["stem/conv", "stem/pool", *names, "final/norm/out", "final/act/out", "head/pooled", "head/logits"]


def mixer_taps(blocks=6):
    inner = [s for s in taps.BLOCK if s.startswith(("tokenmix", "chanmix", "ln", "resid"))]
    return [
        "stem/embed",
        *(f"block{b:02d}/{site}" for b in range(blocks) for site in inner),
        *("final/ln/out", "head/pooled", "head/logits"),
    ]


def subject(name, family, names, **more):
    return {
        "name": name,
        "spec": name,
        "weights_sha256": name,
        "parameters": 1000,
        "family": family,
        "pool": {"vit": "cls", "bit": "gap", "mixer": "gap"}.get(family),
        "no_skip": [],
        "random": False,
        "training_images": 1281167,
        "trained_on": "imagenet2012",
        "finetuned_from": None,
        "patch_size": 32 if family in ("vit", "mixer") else None,
        "image_size": [224, 224],
        "depth": 6 if family in ("vit", "mixer") else 7,
        "taps": list(names),
        "preprocessing": {"size": [224, 224], "resize": "bilinear", "values": "-1..1"},
        "final_accuracy": 0.8,
        **more,
    }


def sidecar(analysis, *subjects, data="imagenet2012:validation", **parameters):
    return {
        "format": 1,
        "analysis": analysis,
        "model": subjects[0]["name"],
        "against": subjects[1]["name"] if len(subjects) > 1 else None,
        "tag": None,
        "parameters": {"images": 10240, "batch": 1024, "seed": 0, "taps": None, **parameters},
        "subjects": list(subjects),
        "data": {"spec": data, "images": 50000, "fingerprint": "0", "skipped": []},
        "notes": [],
        "environment": {
            "versions": {"tensorflow": "2.21.0"},
            "git_commit": "0000000",
            "utc": "2026-01-01T00:00:00Z",
            "seconds": 12.5,
            "strategy": "cpu",
            "replicas": 1,
        },
    }


VIT = subject("vit_b32", "vit", vit_taps())
GAP = subject("vit_b32_gap", "vit", vit_taps(), pool="gap")
BIT = subject("bit_r50x1", "bit", bit_taps())
MIXER = subject("mixer_b32", "mixer", mixer_taps())


CKA_COLUMNS = ["model_x", "depth_x", "layer_x", "model_y", "depth_y", "layer_y", "cka", "cka_se"]


def cka(x, y, similarity, names=taps.default):
    """A cka table; `similarity` of two normalised depths."""
    xs, ys = ([(d, t) for t, d in taps.depths(s["taps"]).items() if t in names(s["taps"])] for s in (x, y))
    rows = [
        (x["name"], dx, tx, y["name"], dy, ty, similarity(dx / xs[-1][0], dy / ys[-1][0]), 0.004)
        for dx, tx in xs
        for dy, ty in ys
    ]
    return pd.DataFrame(rows, columns=CKA_COLUMNS)


def uniform(a, b):
    return 0.55 + 0.4 * np.exp(-4 * (a - b) ** 2) + 0.04 * np.sin(70 * a) * np.sin(70 * b)


def staged(a, b):
    return 0.08 + 0.8 * np.exp(-14 * (a - b) ** 2) + 0.1 * (int(4 * a) == int(4 * b))


def two_blocks(a, b):
    return 0.75 - 0.2 * abs(a - b) if (a < 0.25) == (b < 0.25) else 0.15


def partitioned(a, b):
    return uniform(a, b) * (1 if (a < 0.5) == (b < 0.5) else 0.1)


def crossed(vit, resnet):
    """Lower half of the ResNet like the lowest quarter of the ViT, upper half like the next third."""
    match = 0.45 * resnet if resnet < 0.5 else 0.225 + 0.6 * (resnet - 0.5)
    return max(0.02, 0.8 * np.exp(-18 * (vit - match) ** 2) * (1 - 0.5 * vit))


def matching(x, y, similarity):
    names = [(d, t) for t, d in taps.depths(x["taps"]).items() if t.endswith("resid/post")]
    rows = [(x["name"], d, t, y["name"], d, t, similarity(d / names[-1][0]), 0.003) for d, t in names]
    return pd.DataFrame(rows, columns=CKA_COLUMNS)


def file(root: Path, table: pd.DataFrame, record: dict) -> Path:
    names = "--".join(s["name"] for s in record["subjects"])
    write_table(root / record["analysis"] / names, table, json.loads(json.dumps(record)))
    return root / record["analysis"] / f"{names}.csv"


def cka_results(root: Path) -> list[Path]:
    """All of cka's figures: 1, 2, 8, 12, G.1, H.1, H.2."""
    cut = subject("vit_b32_noskip03", "vit", vit_taps(), no_skip=[3])
    pairs = [
        (VIT, None, uniform),
        (BIT, None, staged),
        (MIXER, None, two_blocks),
        (cut, None, partitioned),
        (VIT, BIT, crossed),
        (MIXER, BIT, lambda a, b: 0.3 + 0.2 * staged(a, b)),
        (MIXER, VIT, lambda a, b: 0.4 + 0.4 * uniform(a, b)),
    ]
    files = [
        file(root, cka(x, y or x, f), sidecar("cka", x, *([y] if y else []), repeats=20, pairs="all"))
        for x, y, f in pairs
    ]
    for n, fraction in ((38435, 0.03), (128117, 0.1), (384350, 0.3)):
        part = subject(f"vit_b32_{fraction}", "vit", vit_taps(), training_images=n)
        table = matching(part, VIT, lambda a, f=fraction: 1 - (1 - f) * a**2)
        files.append(file(root, table, sidecar("cka", part, VIT, repeats=20, pairs="matching")))
    tuned = subject("vit_b32_ft", "vit", vit_taps(), finetuned_from="vit_b32", trained_on="cifar100")
    table = matching(tuned, VIT, lambda a: 1 - 0.4 * a**3)
    return [*files, file(root, table, sidecar("cka", tuned, VIT, repeats=20, pairs="matching"))]


GRID = 7  # 224 pixels in patches of 32


def ends(who):
    """Depth and name of every block's or unit's output."""
    return [(d, t) for t, d in taps.depths(who["taps"]).items() if t.endswith("resid/post")]


def attention_distance(who, heads=12):
    layers = [(d, t) for t, d in taps.depths(who["taps"]).items() if t.endswith("attn/probs")]
    rows = []
    for i, (depth, layer) in enumerate(layers):
        local = max(0.0, 1 - 2.5 * i / len(layers))  # low layers have local heads too, high ones are global
        for head in range(heads):
            share = (head * 7 % heads) / (heads - 1)
            rows.append((who["name"], depth, layer, head, 118 - local * 108 * (1 - share) ** 1.5, 0.1 * share))
    return pd.DataFrame(rows, columns=["model", "depth", "layer", "head", "distance_px", "cls_mass"])


def head_subsets(who, against, heads=12):
    below = [(d, t) for d, t in ends(against)][:4]
    rows = []
    for size in (1, 3, 6):
        for start in range(heads - size + 1):
            chosen = "-".join(f"{h:02d}" for h in range(start, start + size))
            px = 10 + 9 * (start + size / 2)
            for depth, layer in below:
                similarity = 0.75 - 0.005 * px - 0.0004 * depth
                rows.append(
                    (who["name"], "block00/attn/mixed", chosen, size, against["name"], depth, layer, px, similarity)
                )
    keys = ["model", "layer", "heads", "size", "against", "depth_y", "layer_y"]
    return pd.DataFrame(rows, columns=[*keys, "distance_px", "cka"])


def receptive_field(who, side=28):
    y, x = np.mgrid[:side, :side]
    square = np.maximum(abs(y - side // 2), abs(x - side // 2))
    tables = []
    for i, (depth, layer) in enumerate(ends(who)):
        share = (i + 1) / len(ends(who))
        wide = 1 + side * share / 3 if who["family"] == "bit" else side / 2
        near = np.exp(-(square**2) / (2 * (1 + side * share / 8) ** 2))
        gradient = near + (0 if who["family"] == "bit" else 0.4 / (1 + np.exp(-12 * (share - 0.5)))) * np.exp(
            -square / wide
        )
        gradient /= gradient.sum()
        grid = {"row": y.ravel(), "col": x.ravel(), "gradient": gradient.ravel()}
        tables.append(pd.DataFrame({"model": who["name"], "depth": depth, "layer": layer, **grid}))
    return pd.concat(tables, ignore_index=True)


def skip_ratio(who):
    branches = ("attn/out", "mlp/out") if who["family"] == "vit" else ("branch/out",)
    layers = [(d, t) for t, d in taps.depths(who["taps"]).items() if t.endswith(branches)]
    tokens = (
        [] if who["family"] == "bit" else [*(["cls"] if who["pool"] == "cls" else []), *(f"{i:03d}" for i in range(8))]
    )
    rows = []
    for i, (depth, layer) in enumerate(layers):
        share = i / len(layers)
        for token in [*tokens, "mean"]:
            swing = -1 if token == "cls" else 1
            high = 1.2 if who["family"] == "bit" else 4 + swing * 3 * np.tanh(6 * (share - 0.5))
            rows.append((who["name"], depth, layer, token, high, 0.05 * high, 0.2 + 0.1 * swing * share, 0.01))
    return pd.DataFrame(rows, columns=["model", "depth", "layer", "token", "ratio", "ratio_se", "cosine", "cosine_se"])


def localization(who):
    blur = {"cls": 0.8, "gap": 3.0}[who["pool"]]
    row, col = np.mgrid[:GRID, :GRID].reshape(2, -1)
    rim = (row % (GRID - 1) == 0) | (col % (GRID - 1) == 0)
    tables = []
    places = [*zip(row, col, strict=True), *([(-1, -1)] if who["pool"] == "cls" else [])]
    for depth, layer in ends(who)[-2:]:
        for r, c in places:
            near = 0.6 * np.exp(-((row - r) ** 2 + (col - c) ** 2) / (2 * blur**2)) if r >= 0 else 0.05
            edge = 0.1 * rim if r % (GRID - 1) == 0 or c % (GRID - 1) == 0 else 0
            grid = {"patch_row": row, "patch_col": col, "cka": near + edge}
            where = {"model": who["name"], "depth": depth, "layer": layer, "token_row": r, "token_col": c}
            tables.append(pd.DataFrame({**where, **grid}))
    return pd.concat(tables, ignore_index=True)


def probe(who):
    rows = []
    tokens = [f"token{i:03d}" for i in range(GRID**2)]
    for i, (depth, layer) in enumerate(ends(who)):
        share = (i + 1) / len(ends(who))
        for readout in [*(["cls"] if who["pool"] == "cls" else []), "gap", "mean_token", *tokens]:
            single = readout.startswith("token") or readout == "mean_token"
            top = 0.3 if single and who["pool"] == "cls" else 0.75
            late = share**3 if single and who["pool"] == "gap" else share
            accuracy = 0.05 + (top - 0.05) * late
            rows.append((who["name"], depth, layer, readout, accuracy, accuracy - 0.02, accuracy + 0.02, 10.0))
    return pd.DataFrame(
        rows, columns=["model", "depth", "layer", "readout", "accuracy", "accuracy_lo", "accuracy_hi", "l2"]
    )


def all_results(root: Path) -> list[Path]:
    """A table for every drawing of every analysis but cka's."""
    files = []
    files.append(file(root, head_subsets(VIT, BIT), sidecar("head_subsets", VIT, BIT)))
    for who in (VIT, GAP, BIT):
        makers = [receptive_field, skip_ratio, localization, probe]
        makers += [attention_distance] if who["family"] == "vit" else []
        for maker in makers:
            more = {"test": "imagenet2012:validation", "tokens": "each"} if maker is probe else {}
            files.append(file(root, maker(who), sidecar(maker.__name__, who, **more)))
    return files
