"""The account of the released networks states what its committed tables say, of the layers that they have."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import tf_vitcnn
from tests.verdicts.plain import NUMBERS, in_its_place, stated
from tf_vitcnn.stats.attention import uniform_distance

REAL = Path(__file__).resolve().parents[2] / "saved_results/real"
ACCOUNT = (REAL / "README.md").read_text() if REAL.exists() else ""
TRAINED, RANDOM = ("dinov2_small", "resnet50_thin"), ("dinov2_random", "resnet50_random")


OF_RANDOM = ("uniform, ViT", "uniform, ResNet", "stages, ViT", "low half", "top half", "top differs")


@pytest.mark.parametrize("name", NUMBERS)
def test_the_account_states_what_the_tables_say(name):
    assert stated(REAL, name, TRAINED) in " ".join(ACCOUNT.split())


@pytest.mark.parametrize("name", OF_RANDOM)
def test_the_account_states_what_tables_of_random_weights_say(name):
    assert stated(REAL, name, RANDOM) in " ".join(ACCOUNT.split())


READ = {
    "dinov2_small": {"cls": "ViT, class token", "gap": "ViT, mean of tokens"},
    "resnet50_thin": {"gap": "ResNet"},
}


@pytest.mark.parametrize("name", READ)
def test_the_account_states_what_each_depth_reads(name):
    random = tf_vitcnn.read_table(REAL / f"probe/{dict(zip(TRAINED, RANDOM, strict=True))[name]}.csv")
    whole = tf_vitcnn.read_table(REAL / f"probe/{name}.csv").sort_values("depth")
    for readout, row in READ[name].items():
        table = whole[whole.readout == readout]
        outputs = table[table.layer.str.endswith("resid/post")].accuracy.to_numpy()
        shares = [outputs[round(len(outputs) * share) - 1] for share in (0.25, 0.5, 0.75)]
        last = table[~table.layer.str.startswith("head/")].iloc[-1]
        ended = random[(random.readout == readout) & (random.layer == last.layer)].accuracy.item()
        low, high = last.accuracy_lo, last.accuracy_hi
        cells = [*(f"{v:.3f}" for v in shares), f"{last.accuracy:.3f} ({low:.3f} to {high:.3f})", f"{ended:.3f}"]
        assert f"| {row} | {' | '.join(cells)} |".replace("0.", ".") in ACCOUNT


def test_the_account_states_single_tokens_and_places():
    tokens = tf_vitcnn.read_table(REAL / "probe/dinov2_small.tokens.csv")
    mean = tokens[tokens.readout.str.startswith("token")].groupby("layer").accuracy.mean()
    assert len(mean) == 4 and "{}, {}, {} and {}".format(*(f"{v:.3f}"[1:] for v in mean)) in ACCOUNT
    names = ("dinov2_112px", "dinov2_112px_random", "resnet50_thin")
    kept = {name: in_its_place(REAL / f"localization/{name}.csv") for name in names}
    assert kept == {
        "dinov2_112px": ["1.00", "0.84"],
        "dinov2_112px_random": ["1.00"] * 2,
        "resnet50_thin": ["0.98", "0.69"],
    }
    assert "84 %" in ACCOUNT and "98 % do in the last unit but one and 69 %" in ACCOUNT


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


def test_the_account_states_fields():
    """Shares outside the centre patch, by cells of its size."""
    outside = {}
    for name in ("dinov2_small", "dinov2_random"):
        table = tf_vitcnn.read_table(REAL / f"receptive_field/{name}.csv").sort_values("depth")
        inside = table[(table.row == 8) & (table.col == 8)]  # the token's own patch, one cell
        outside[name] = 1 - inside.set_index("layer").gradient
    trained, random = outside.values()
    assert f"{100 * trained['block02/resid/post']:.0f} % of the gradient of its centre token" in ACCOUNT
    assert (
        f"goes from {100 * trained.iloc[0]:.0f} % after the first attention to {100 * trained.iloc[-1]:.0f} %"
        in ACCOUNT
    )
    assert f"hold**, {100 * random['block02/resid/post']:.0f} % against 70 %" in " ".join(ACCOUNT.split())


def test_no_word_of_the_account_stands_against_its_claims():
    """Each section names what its verdicts are, and no other is decided."""
    import pandas as pd

    claims = pd.read_csv(REAL / "claims.csv")
    known = claims[claims.verdict != "untested"]
    found = {word: sorted(set(part.claim)) for word, part in known.groupby("verdict")}
    assert found == {
        "fails": [
            "branch-shrinks-at-stages",
            *(
                "high-layers-global",
                "local-heads-like-resnet",
                "low-layers-local-and-global",
                "outliers-in-late-layers",
            ),
            *("phase-transition", "resnet-stages", "skip-stronger-in-vit", "uniform-vit"),
            *("vit-low-larger", "vit-turns-global-midway"),
        ],
        "holds": [
            *("low-half-resnet-low-quarter-vit", "measures-agree", "patching-hardly-matters"),
            "residual-keeps-centre",
            *("top-half-resnet-next-third-vit", "vit-top-differs"),
        ],
        "undecided": ["edge-tokens-see-edges", "tokens-localized"],
    }
    assert list(known[known.origin == "learned"].claim) == ["top-half-resnet-next-third-vit"]
    assert set(known[known.origin == "free"].claim) == {
        *("low-half-resnet-low-quarter-vit", "measures-agree", "residual-keeps-centre", "vit-top-differs")
    }


def test_sidecars_name_no_place_of_one_machine():
    for path in REAL.glob("*/*.json"):
        text = path.read_text()
        assert json.loads(text)["data"]["spec"].startswith("folder:runs/real/images/")
        assert not re.search(r'"[^"]*(?<![\w.])/(?:home|root|tmp|work|Users)/', text)
