"""Values as the paper's figures show them, under the sidecars that real sessions make; no network is run.

Networks are small ones of ours, bound to real analyses and data; what their training would have told (`CARD`) is given.
"""

import copy
import zlib
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from tf_vitcnn import analyses, taps
from tf_vitcnn.models.specs import MixerSpec, ResNetSpec, ViTSpec
from tf_vitcnn.tables.write import write_table

SPECS = {
    "vit": ViTSpec(32, 24, 6, 12, 24),
    "gap": ViTSpec(32, 24, 6, 12, 24, pool="gap"),
    "scaled": ViTSpec(32, 24, 6, 12, 24, layer_scale=True),
    "bit": ResNetSpec((1, 2, 2, 2), 0.5),
    "mixer": MixerSpec(32, 8, 6, 8, 8),
}
CARD = {"trained_on", "finetuned_from", "training_images", "final_accuracy"}


def subject(name, kind="vit", *, blocks=None, cut=(), weights=None, random=False, size=224, classes=10, **card):
    """A network of ours as loading gives it, on weights drawn by name (`weights`: another's)."""
    assert set(card) <= CARD
    return _subject(name, kind, blocks, tuple(cut), weights or name, random, size, classes, tuple(card.items()))


@cache
def _subject(name, kind, blocks, cut, weights, random, size, classes, card):
    from tf_vitcnn.checkpoints import catalog, keras_file, ours
    from tf_vitcnn.models import build

    spec = SPECS[kind]
    if blocks:
        spec = replace(spec, **{"units" if kind == "bit" else "depth": blocks})
    model = build(spec, image_size=size, classes=classes, seed=zlib.crc32(weights.encode()), no_skip=cut)
    about = {"trained_on": "imagenet2012", "training_images": 1281167, "final_accuracy": 0.8, **dict(card)}
    about = {"random": True, "seed": 0} if random else {"random": False, **about}
    preprocessing = catalog.preprocessing(spec, (size, size))
    if cut:  # only files of ours lack skips
        return keras_file.foreign(name, f"{name}.keras", model, None, preprocessing, about)
    return ours.subject(name, f"{name}@random" if random else name, model, spec, preprocessing, about)


def vit():
    return subject("vit_b32")


def gap():
    return subject("vit_b32_gap", "gap")


def bit():
    return subject("bit_r50x1", "bit")


def mixer():
    return subject("mixer_b32", "mixer")


@cache
def imagenet(spec="imagenet2012:validation", count=50_000):
    """Images under the name of a prepared set: black, of one pixel."""
    from tf_vitcnn.data.arrays import Arrays
    from tf_vitcnn.data.base import digest

    pixels, labels = np.zeros((count, 1, 1, 3), np.uint8), np.arange(count, dtype=np.int32) % 10
    return Arrays(spec, pixels, labels, tuple("0123456789"), digest([spec, pixels.tobytes(), labels.tobytes()]))


RUN = {"images", "batch", "seed", "taps"}


def sidecar(analysis, *subjects, data=None, tag=None, **parameters):
    """What a run of that analysis on these networks would file beside its table."""
    from tf_vitcnn.engine.request import Request
    from tf_vitcnn.engine.session import Session

    run = {name: parameters.pop(name) for name in RUN & set(parameters)}
    request = Request((analyses.find(analysis)(**parameters),), data or imagenet(), quiet=True, **run)
    model, other = (*subjects, None)[:2]
    with Session(request, model, other, tag=tag) as bound:
        return copy.deepcopy(bound.sidecar(0))


CKA_COLUMNS = ["model_x", "depth_x", "layer_x", "model_y", "depth_y", "layer_y", "cka", "cka_se"]


def cka(x, y, similarity, names=taps.default):
    """A cka table; `similarity` of two normalised depths."""
    xs, ys = ([(d, t) for t, d in s.depths.items() if t in names(s.taps)] for s in (x, y))
    rows = [
        (x.name, dx, tx, y.name, dy, ty, similarity(dx / xs[-1][0], dy / ys[-1][0]), 0.004)
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
    names = [(d, t) for t, d in x.depths.items() if t.endswith("resid/post")]
    rows = [(x.name, d, t, y.name, d, t, similarity(d / names[-1][0]), 0.003) for d, t in names]
    return pd.DataFrame(rows, columns=CKA_COLUMNS)


def file(root: Path, table: pd.DataFrame, record: dict) -> Path:
    names = "--".join(s["name"] for s in record["subjects"]) + (f".{record['tag']}" if record["tag"] else "")
    write_table(root / record["analysis"] / names, table, record)
    return root / record["analysis"] / f"{names}.csv"


def cka_results(root: Path) -> list[Path]:
    """All of cka's figures: 1, 2, 8, 12, G.1, H.1, H.2."""
    cut = subject("vit_b32_noskip03", cut=(3,))
    pairs = [
        (vit(), None, uniform),
        (bit(), None, staged),
        (mixer(), None, two_blocks),
        (cut, None, partitioned),
        (vit(), bit(), crossed),
        (mixer(), bit(), lambda a, b: 0.3 + 0.2 * staged(a, b)),
        (mixer(), vit(), lambda a, b: 0.4 + 0.4 * uniform(a, b)),
    ]
    files = [file(root, cka(x, y or x, f), sidecar("cka", x, *([y] if y else []))) for x, y, f in pairs]
    for n, fraction in ((38435, 0.03), (128117, 0.1), (384350, 0.3)):
        part = subject(f"vit_b32_{fraction}", training_images=n)
        table = matching(part, vit(), lambda a, f=fraction: 1 - (1 - f) * a**2)
        files.append(file(root, table, sidecar("cka", part, vit(), pairs="matching")))
    tuned = subject("vit_b32_ft", finetuned_from="vit_b32", trained_on="cifar100")
    table = matching(tuned, vit(), lambda a: 1 - 0.4 * a**3)
    return [*files, file(root, table, sidecar("cka", tuned, vit(), pairs="matching"))]


def family(who):
    return who.provenance["family"]


def pool(who):
    return who.provenance["pool"]


GRID = 7  # 224 pixels in patches of 32


def ends(who):
    """Depth and name of every block's or unit's output."""
    return [(d, t) for t, d in who.depths.items() if t.endswith("resid/post")]


def attention_distance(who, heads=12):
    layers = [(d, t) for t, d in who.depths.items() if t.endswith("attn/probs")]
    rows = []
    for i, (depth, layer) in enumerate(layers):
        local = max(0.0, 1 - 2.5 * i / len(layers))  # low layers have local heads too, high ones are global
        for head in range(heads):
            share = (head * 7 % heads) / (heads - 1)
            rows.append((who.name, depth, layer, head, 118 - local * 108 * (1 - share) ** 1.5, 0.1 * share))
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
                rows.append((who.name, "block00/attn/mixed", chosen, size, against.name, depth, layer, px, similarity))
    keys = ["model", "layer", "heads", "size", "against", "depth_y", "layer_y"]
    return pd.DataFrame(rows, columns=[*keys, "distance_px", "cka"])


def receptive_field(who, side=28):
    y, x = np.mgrid[:side, :side]
    square = np.maximum(abs(y - side // 2), abs(x - side // 2))
    tables = []
    for i, (depth, layer) in enumerate(ends(who)):
        share = (i + 1) / len(ends(who))
        wide = 1 + side * share / 3 if family(who) == "bit" else side / 2
        near = np.exp(-(square**2) / (2 * (1 + side * share / 8) ** 2))
        gradient = near + (0 if family(who) == "bit" else 0.4 / (1 + np.exp(-12 * (share - 0.5)))) * np.exp(
            -square / wide
        )
        gradient /= gradient.sum()
        grid = {"row": y.ravel(), "col": x.ravel(), "gradient": gradient.ravel()}
        tables.append(pd.DataFrame({"model": who.name, "depth": depth, "layer": layer, **grid}))
    return pd.concat(tables, ignore_index=True)


def skip_ratio(who):
    branches = ("attn/out", "mlp/out") if family(who) == "vit" else ("branch/out",)
    layers = [(d, t) for t, d in who.depths.items() if t.endswith(branches)]
    tokens = [] if family(who) == "bit" else [*(["cls"] if pool(who) == "cls" else []), *(f"{i:03d}" for i in range(8))]
    rows = []
    for i, (depth, layer) in enumerate(layers):
        share = i / len(layers)
        for token in [*tokens, "mean"]:
            swing = -1 if token == "cls" else 1
            high = 1.2 if family(who) == "bit" else 4 + swing * 3 * np.tanh(6 * (share - 0.5))
            rows.append((who.name, depth, layer, token, high, 0.05 * high, 0.2 + 0.1 * swing * share, 0.01))
    return pd.DataFrame(rows, columns=["model", "depth", "layer", "token", "ratio", "ratio_se", "cosine", "cosine_se"])


def localization(who):
    blur = {"cls": 0.8, "gap": 3.0}[pool(who)]
    row, col = np.mgrid[:GRID, :GRID].reshape(2, -1)
    rim = (row % (GRID - 1) == 0) | (col % (GRID - 1) == 0)
    tables = []
    places = [*zip(row, col, strict=True), *([(-1, -1)] if pool(who) == "cls" else [])]
    for depth, layer in ends(who)[-2:]:
        for r, c in places:
            near = 0.6 * np.exp(-((row - r) ** 2 + (col - c) ** 2) / (2 * blur**2)) if r >= 0 else 0.05
            edge = 0.1 * rim if r % (GRID - 1) == 0 or c % (GRID - 1) == 0 else 0
            grid = {"patch_row": row, "patch_col": col, "cka": near + edge}
            where = {"model": who.name, "depth": depth, "layer": layer, "token_row": r, "token_col": c}
            tables.append(pd.DataFrame({**where, **grid}))
    return pd.concat(tables, ignore_index=True)


def probe(who):
    rows = []
    tokens = [f"token{i:03d}" for i in range(GRID**2)]
    for i, (depth, layer) in enumerate(ends(who)):
        share = (i + 1) / len(ends(who))
        for readout in [*(["cls"] if pool(who) == "cls" else []), "gap", "mean_token", *tokens]:
            single = readout.startswith("token") or readout == "mean_token"
            top = 0.3 if single and pool(who) == "cls" else 0.75
            late = share**3 if single and pool(who) == "gap" else share
            accuracy = 0.05 + (top - 0.05) * late
            rows.append((who.name, depth, layer, readout, accuracy, accuracy - 0.02, accuracy + 0.02, 10.0))
    return pd.DataFrame(
        rows, columns=["model", "depth", "layer", "readout", "accuracy", "accuracy_lo", "accuracy_hi", "l2"]
    )


PROBED = {"data": "digits:train", "test": "digits:test", "tokens": "each"}


def all_results(root: Path) -> list[Path]:
    """A table for every drawing of every analysis but cka's."""
    files = [file(root, head_subsets(vit(), bit()), sidecar("head_subsets", vit(), bit()))]
    branches = sidecar("receptive_field", bit(), taps=["*/branch/out"], tag="branches")
    files.append(file(root, receptive_field(bit()), branches))
    for who in (vit(), gap(), bit()):
        makers = [receptive_field, skip_ratio, localization, probe]
        makers += [attention_distance] if family(who) == "vit" else []
        for maker in makers:
            more = PROBED if maker is probe else {}
            files.append(file(root, maker(who), sidecar(maker.__name__, who, **more)))
    return files


def random_results(root: Path) -> list[Path]:
    """The same networks with random weights: baselines of the claims, and twins of the figures' panels."""
    a, b = subject("random_vit_b32", random=True), subject("random_bit_r50x1", "bit", random=True)
    pairs = [(a, None, uniform), (b, None, uniform), (a, b, lambda x, y: 0.2)]
    files = [file(root, cka(x, y or x, f), sidecar("cka", x, *([y] if y else []))) for x, y, f in pairs]
    return [*files, *(file(root, skip_ratio(who), sidecar("skip_ratio", who)) for who in (a, b))]
