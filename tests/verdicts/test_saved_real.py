"""The account of the released networks states what its committed tables say, of the layers that they have."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import tf_vitcnn
from tf_vitcnn.stats.attention import uniform_distance

REAL = Path(__file__).resolve().parents[2] / "saved_results/real"
ACCOUNT = (REAL / "README.md").read_text() if REAL.exists() else ""
VIT, RESNET, CROSSED = (
    f"cka/{name}.draw1.csv" for name in ("dinov2_small", "resnet50_thin", "dinov2_small--resnet50_thin")
)


def square(table):
    """CKA [layers x, layers y] in depth order."""
    return table.pivot_table(index="depth_x", columns="depth_y", values="cka").to_numpy()


def corner(table):
    """Mean of the lowest with the highest third."""
    cells = square(table)
    third = len(cells) // 3
    return cells[:third, -third:].mean()


def contrast(cells, labels):
    """Mean within groups less mean across, the diagonal left out."""
    same, off = labels[:, None] == labels[None], ~np.eye(len(labels), dtype=bool)
    return cells[same & off].mean() - cells[~same].mean()


def stages(table):
    layers = table.drop_duplicates("depth_x").sort_values("depth_x").layer_x
    labels = np.array([int(m[1]) if (m := re.match(r"stage(\d)", layer)) else 0 for layer in layers])
    inside = labels > 0
    return contrast(square(table)[np.ix_(inside, inside)], labels[inside])


def quarters(table):
    cells = square(table)
    return contrast(cells, np.arange(len(cells)) * 4 // len(cells))


def best_depth(table, half):
    """Median relative depth of the ViT layer that matches a layer of one half of the ResNet best."""
    cells = square(table)  # [ViT, ResNet]
    best = cells.argmax(axis=0) / (len(cells) - 1)
    return float(np.median(best[half * (cells.shape[1] // 2) :][: cells.shape[1] // 2]))


def top_less(table):
    """Best match over all ResNet layers: mean of the ViT's last third less that of its first."""
    best = square(table).max(axis=1)
    third = len(best) // 3
    return best[-third:].mean() - best[:third].mean()


NUMBERS = {
    "uniform": ((VIT, RESNET), lambda vit, resnet: corner(vit) - corner(resnet), False),
    "uniform, ViT": ((VIT,), corner, False),
    "uniform, ResNet": ((RESNET,), corner, False),
    "stages": ((RESNET, VIT), lambda resnet, vit: stages(resnet) - quarters(vit), False),
    "stages, ResNet": ((RESNET,), stages, False),
    "stages, ViT": ((VIT,), quarters, False),
    "low half": ((CROSSED,), lambda table: best_depth(table, 0), True),
    "top half": ((CROSSED,), lambda table: best_depth(table, 1), True),
    "top differs": ((CROSSED,), top_less, False),
}


def stated(name):
    tables, statistic, jumps = NUMBERS[name]
    found = tf_vitcnn.interval([REAL / table for table in tables], statistic, jumps=jumps)
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


@pytest.mark.parametrize("name", NUMBERS)
def test_the_account_states_what_the_tables_say(name):
    assert stated(name) in " ".join(ACCOUNT.split())


def test_the_account_states_heads_tokens_and_skips():
    """Numbers of the text, from the tables by other means."""
    heads = tf_vitcnn.read_table(REAL / "attention_distance/dinov2_small.csv")
    nearest = heads.groupby("layer").distance_px.min()
    rows = np.arange(16)
    apart = np.abs(rows[:, None] - rows[None])
    uniform = 14 * np.hypot(apart[:, None, :, None], apart[None, :, None, :]).mean()
    assert f"{uniform:.0f}" == "117"
    assert f"looks {nearest['block00/attn/probs'] / uniform:.2f} as far as uniform" in ACCOUNT
    assert [f"{nearest[f'block{i:02}/attn/probs']:.1f}" for i in (3, 2, 1, 11)] == ["20.7", "22.5", "22.7", "58.5"]
    tokens = tf_vitcnn.read_table(REAL / "tokens/dinov2_small.csv").set_index(["layer", "statistic"]).value
    assert [tokens[f"block{i:02}/resid/post", "outlier_share"] for i in (8, 9, 10, 11)] == [0] * 4
    largest = [tokens[f"block{i}/resid/post", "q100"] / tokens[f"block{i}/resid/post", "q50"] for i in (11, 10)]
    assert [f"{ratio:.1f}" for ratio in largest] == ["1.5", "2.0"]
    cosines = [tokens[f"block{i:02}/resid/post", "neighbour_cosine"] for i in (0, 11)]
    assert [f"{value:.2f}" for value in cosines] == ["0.59", "0.92"]
    skips = {n: tf_vitcnn.read_table(REAL / f"skip_ratio/{n}.csv") for n in ("resnet50_thin", "resnet50_random")}
    assert [f"{table.ratio.mean():.2f}" for table in skips.values()] == ["1.46", "2.61"]


def test_the_account_states_what_random_weights_give():
    heads = tf_vitcnn.read_table(REAL / "attention_distance/dinov2_random.csv")
    uniform = uniform_distance(16, 16, (14, 14))
    nearest = heads.groupby("layer").distance_px.min() / uniform
    assert f"{nearest.min():.2f} to {nearest.max():.2f} of it" in ACCOUNT
    skips = tf_vitcnn.read_table(REAL / "skip_ratio/dinov2_random.csv").sort_values("depth")
    ratios = {token: rows.ratio.to_numpy() for token, rows in skips.groupby("token") if token in ("cls", "mean")}
    assert f"{ratios['mean'].mean():.2f} against 2.61" in ACCOUNT
    for ratio in ratios.values():
        assert f"{ratio[:12].mean():.2f} to {ratio[12:].mean():.2f}" in ACCOUNT
    tokens = tf_vitcnn.read_table(REAL / "tokens/dinov2_random.csv").set_index(["layer", "statistic"]).value
    assert tokens.xs("outlier_share", level="statistic").filter(regex="resid/post").max() == 0
    cosines = [tokens[f"block{i:02}/resid/post", "neighbour_cosine"] for i in (0, 11)]
    assert f"{cosines[0]:.2f} to {cosines[1]:.2f}" in ACCOUNT


def test_no_word_of_the_account_stands_against_its_claims():
    """What it says fails does, what it says holds does, and nothing else in its file is decided."""
    import pandas as pd

    claims = pd.read_csv(REAL / "claims.csv")
    decided = claims[~claims.verdict.isin(["untested"])].set_index("claim").verdict.to_dict()
    holds = {"low-half-resnet-low-quarter-vit", "top-half-resnet-next-third-vit", "vit-top-differs"}
    assert decided == {claim: "holds" if claim in holds else "fails" for claim in decided}
    assert len(decided) == 7 + len(holds)


def test_sidecars_name_no_place_of_one_machine():
    for path in REAL.glob("*/*.json"):
        text = path.read_text()
        assert json.loads(text)["data"]["spec"] == "folder:runs/real/images/imagenet-sample-256px"
        assert not re.search(r'"[^"]*(?<![\w.])/(?:home|root|tmp|work|Users)/', text)
