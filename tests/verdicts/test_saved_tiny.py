"""The account of the networks trained here states what its committed tables and cards say."""

import json
from pathlib import Path

import pandas as pd
import pytest

import tf_vitcnn
from tests.verdicts import plain
from tests.verdicts.plain import NUMBERS, in_its_place, stated, worded
from tf_vitcnn.stats.attention import uniform_distance

TINY = Path(__file__).resolve().parents[2] / "saved_results/tiny_imagenet"
ACCOUNT = " ".join((TINY / "README.md").read_text().split())


@pytest.mark.parametrize("pair", [("vit", "bit"), ("random_vit", "random_bit")], ids="-".join)
@pytest.mark.parametrize("name", [name for name in NUMBERS if name != "stages"])
def test_the_account_states_what_the_tables_say(name, pair):
    assert stated(TINY, name, pair) in ACCOUNT


def mean_end(table):
    return plain.ends(table).mean()


def first_third(table):
    return plain.ends(table)[:2].mean()


def last_third(table):
    return plain.ends(table)[-2:].mean()


def lower_half(table):
    return plain.ends(table)[:3].mean()


def upper_half(table):
    return plain.ends(table)[3:].mean()


def less(statistic):
    return lambda a, b: statistic(a) - statistic(b)


def across(table):
    return plain.across(table, "block03")


def token(table):
    return plain.read_out(table, 1, "mean_token")


FEWER = ("cka/vit_010--vit.csv", "cka/vit_small_010--vit_small.csv")
RANDOM = ("cka/random_vit_other--random_vit.csv", "cka/random_vit_small_other--random_vit_small.csv")
TUNED = ("cka/vit_far--vit_half.csv", "cka/vit_near--vit_half.csv")
CUT, MIXED = ("cka/vit_cut3.csv", "cka/vit.csv"), ("cka/mixer--vit.csv", "cka/mixer--bit.csv")
SAID = {  # tables, statistic, whether it jumps
    "pooled": (["cka/vit_gap.csv"], plain.corner, False),
    "pooled, quarters": (["cka/vit_gap.csv"], plain.quarters, False),
    "pooled, random": (["cka/random_vit_gap.csv"], plain.corner, False),
    "pooling": (["cka/vit_gap.csv", "cka/vit.csv"], less(plain.corner), False),
    "tokens of the class-token ViT": (["probe/vit.csv"], token, False),
    "tokens of the pooled ViT": (["probe/vit_gap.csv"], token, False),
    "a tenth, lower half": (FEWER[:1], lower_half, False),
    "a tenth, upper half": (FEWER[:1], upper_half, False),
    "three tenths, lower half": (["cka/vit_030--vit.csv"], lower_half, False),
    "three tenths, upper half": (["cka/vit_030--vit.csv"], upper_half, False),
    "less data, larger": (FEWER[:1], mean_end, False),
    "less data, smaller": (FEWER[1:], mean_end, False),
    "less data, larger less smaller": (FEWER, less(mean_end), False),
    "no data, larger less smaller": (RANDOM, less(mean_end), False),
    "far": (TUNED[:1], mean_end, False),
    "near": (TUNED[1:], mean_end, False),
    "far less near": (TUNED, less(mean_end), False),
    "near, first third": (TUNED[1:], first_third, False),
    "near, last third": (TUNED[1:], last_third, False),
    "cut": (CUT[:1], across, False),
    "whole": (CUT[1:], across, False),
    "Mixer, first group": (["cka/mixer.csv"], plain.first_group, True),
    "Mixer in the ViT": (MIXED[:1], plain.best_match, False),
    "Mixer in the ResNet": (MIXED[1:], plain.best_match, False),
    "random Mixer in the ViT": (["cka/random_mixer--random_vit.csv"], plain.best_match, False),
    "random Mixer in the ResNet": (["cka/random_mixer--random_bit.csv"], plain.best_match, False),
}


@pytest.mark.parametrize("name", SAID)
def test_the_account_states_pooling_sizes_tuning_skips_and_mixers(name):
    tables, statistic, jumps = SAID[name]
    assert worded([TINY / table for table in tables], statistic, jumps) in ACCOUNT


def test_the_account_states_every_trained_network_and_its_accuracy():
    """Each card beside the tables has its row, and weights made by one recipe but for what the row says."""
    cards = [json.loads(path.read_text()) for path in (TINY / "training").glob("*.card.json")]
    for card in cards:
        if card["training_images"]:
            rows = [line for line in (TINY / "README.md").read_text().splitlines() if f"`{card['name']}`" in line]
            assert any(f"| {100 * card['final_accuracy']:.1f} %" in row for row in rows), card["name"]
        assert not card["recipe"]["data"].startswith("/")
    assert {card["recipe"]["optimizer"] for card in cards if not card["recipe"].get("from")} == {"muon"}


READ = {("vit", "cls"): "ViT, class token", ("vit", "gap"): "ViT, mean of tokens", ("bit", "gap"): "ResNet"}


@pytest.mark.parametrize("name, readout", READ)
def test_the_account_states_what_each_depth_reads(name, readout):
    found = {}
    for model in (name, f"random_{name}"):
        table = tf_vitcnn.read_table(TINY / f"probe/{model}.csv").sort_values("depth")
        found[model] = table[(table.readout == readout) & table.layer.str.endswith("resid/post")]
    trained, random = found.values()
    third, two_thirds, end = (trained.accuracy.iloc[round(len(trained) * i / 3) - 1] for i in (1, 2, 3))
    last = trained.iloc[-1]
    ended = f"{end:.3f} ({last.accuracy_lo:.3f} to {last.accuracy_hi:.3f})"
    cells = [f"{third:.3f}", f"{two_thirds:.3f}", ended, f"{random.accuracy.iloc[-1]:.3f}"]
    assert f"| {READ[name, readout]} | {' | '.join(cells)} |".replace("0.", ".") in ACCOUNT


def test_the_account_states_places_heads_and_skips():
    names = ("vit", "random_vit", "vit_gap", "bit", "random_bit")
    kept = {name: in_its_place(TINY / f"localization/{name}.csv") for name in names}
    assert kept == {
        "vit": ["1.00"] * 2,
        "random_vit": ["1.00"] * 2,
        "vit_gap": ["1.00"] * 2,
        "bit": ["1.00", "0.88"],
        "random_bit": ["0.06"] * 2,
    }
    assert "100 % in the last unit but one and 88 % in the last, with random weights 6 %" in ACCOUNT
    for name in ("vit", "random_vit"):
        table = tf_vitcnn.read_table(TINY / f"attention_distance/{name}.csv")
        nearest = (table.groupby("layer").distance_px.min() / uniform_distance(8, 8, (8, 8))).iloc[:2]
        assert " and ".join(f"{share:.2f}" for share in nearest) in ACCOUNT
    skips = tf_vitcnn.read_table(TINY / "skip_ratio/vit.csv").sort_values("depth")
    for token in ("cls", "mean"):
        ratio = skips[skips.token == token].ratio.to_numpy()
        assert f"{ratio[:6].mean():.2f} to {ratio[6:].mean():.2f}" in ACCOUNT


def test_the_account_states_what_more_images_do():
    """How near the nearest head of the two lowest blocks looks, what the class token tells at half depth."""
    near, told = [], []
    for name in ("vit_010", "vit_030", "vit"):
        heads = tf_vitcnn.read_table(TINY / f"attention_distance/{name}.csv")
        near.append(heads[heads.layer < "block02"].distance_px.min())
        told.append(f"{plain.read_out(tf_vitcnn.read_table(TINY / f'probe/{name}.csv'), 0.5, 'cls'):.3f}"[1:])
    assert (
        "{:.1f} px far with a tenth of the images, {:.1f} with three tenths, {:.1f} with all".format(*near) in ACCOUNT
    )
    said = "{} of the classes in the ViT of a tenth of the images, {} in that of three tenths and {} in that of all"
    assert said.format(*told) in ACCOUNT


def test_no_word_of_the_account_stands_against_its_claims():
    """Each section names what its verdicts are."""
    claims = pd.read_csv(TINY / "claims.csv")
    known = claims[claims.verdict != "untested"]
    found = {word: sorted(set(part.claim)) for word, part in known.groupby("verdict")}
    origin = {word: sorted(set(part.claim)) for word, part in known.groupby("origin")}
    assert found["undecided"] == [
        *("gap-less-localized", "local-heads-like-resnet", "no-skip-costs-accuracy", "vit-low-larger")
    ]
    assert found["fails"] == [
        *("bigger-needs-more-data", "branch-shrinks-at-stages", "far-domain-changes-more", "gap-tokens-alike"),
        *("local-heads-like-resnet", "low-layers-local-and-global", "no-skip-partitions", "outliers-in-late-layers"),
        *("phase-transition", "resnet-locations-good-late", "resnet-stages", "uniform-vit", "vit-low-larger"),
    ]
    assert origin["learned"] == [
        *("cls-model-tokens-poor", "less-data-less-local", "more-data-better-middle"),
        *("top-half-resnet-next-third-vit", "vit-turns-global-midway"),
    ]
    assert origin["free"] == [
        *("bigger-vit-better-middle", "data-needed-high", "edge-tokens-see-edges", "finetune-keeps-low"),
        *("high-layers-global", "local-heads-like-resnet", "low-half-resnet-low-quarter-vit", "measures-agree"),
        *("mixer-like-vit", "mixer-two-blocks", "residual-keeps-centre", "resnet-stages", "skip-stronger-in-vit"),
        *("tokens-localized", "uniform-vit", "vit-top-differs"),
    ]
