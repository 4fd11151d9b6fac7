"""What the committed tables say is what is committed as their verdicts."""

import json
import re
import statistics
from functools import cache
from pathlib import Path

import pytest
from etils import epath

import tf_vitcnn
from tests.verdicts import plain
from tf_vitcnn.report.collect import all_claims, gather
from tf_vitcnn.verdicts.claim import judge
from tf_vitcnn.verdicts.seeds import Summary, over_seeds
from tf_vitcnn.verdicts.verdict import to_csv

ROOT = Path(__file__).resolve().parents[2] / "saved_results"
ACCOUNT = ROOT / "tiny_imagenet/README.md"


@cache
def verdicts(study):
    results, problems = gather(epath.Path(ROOT / study))
    assert problems == []
    return judge(results, all_claims())


@pytest.mark.parametrize("study", sorted(path.parent.name for path in ROOT.glob("*/claims.csv")))
def test_claims_csv_is_what_the_committed_tables_say(study):
    text = to_csv(line.row() for line in over_seeds(verdicts(study)))
    assert text == (ROOT / study / "claims.csv").read_text()


def test_the_account_states_the_largest_change_between_settings():
    """Its minibatches of 64 and its 512 images both against the full setting."""
    (settings,) = (v for v in verdicts("tiny_imagenet") if v.claim.id == "cka-settings-do-not-matter")
    assert len(settings.checks) == 2
    assert settings.value == pytest.approx(0.0136, abs=5e-5)
    assert f"{settings.value:.4f}" in ACCOUNT.read_text()


def told_over_seeds(summary):
    """A claim's row of the account: beside ViT and ResNet which network, margins by seed, how many hold and why."""
    words, origins = [[getattr(v, name) for v in summary.verdicts] for name in ("word", "origin")]
    settled = len(set(words)) == 1
    others = [name for name in summary.verdicts[0].subjects if name not in ("vit", "bit")]
    held = f"{words.count('holds')} of {len(words)}"
    held += f", {origins[0]}" if settled and set(origins) == {origins[0]} != {""} else ""
    held += "" if settled else f": {', '.join(words)}"
    margins = ", ".join(f"{margin:.3g}" for margin in summary.margins)
    return f"| {' | '.join([summary.claim.id, summary.claim.place, ' '.join(others), margins, held])} |"


def rows_over_seeds():
    return [line for line in ACCOUNT.read_text().splitlines() if re.search(r"\| \d of \d", line)]


def test_the_account_states_every_claim_over_seeds():
    found = [line for line in over_seeds(verdicts("tiny_imagenet")) if isinstance(line, Summary)]
    assert rows_over_seeds() == list(map(told_over_seeds, found)) != []
    errors = [statistics.mean((v.deciding.high - v.deciding.low) / 3.92 for v in line.verdicts) for line in found]
    further = [line.spread / error for line, error in zip(found, errors, strict=True) if error > 0]
    account = " ".join(ACCOUNT.read_text().split())
    assert f"by {statistics.median(further):.1f} times the error over images in half of the rows" in account
    assert f"{max(further):.0f} times for the nearest head" in account


@pytest.mark.parametrize("seed", [1, 2])
def test_margins_over_seeds_are_those_of_plain_numpy(seed):
    """Of the claims of Fig. 1 and 2, whose tables the account's other tests read too."""
    lines = {line.split(" | ")[0][2:]: line.split(" | ")[3] for line in rows_over_seeds() if " |  | " in line}
    vit, resnet, both = (
        tf_vitcnn.read_table(ACCOUNT.parent / path) for path in plain.of_cka(f"vit_seed{seed}", f"bit_seed{seed}")
    )
    upper = plain.best_depth(both, 1)
    expected = {
        "uniform-vit": plain.corner(vit) - plain.corner(resnet),
        "resnet-stages": plain.stages(resnet) - plain.quarters(vit),
        "low-half-resnet-low-quarter-vit": 0.35 - plain.best_depth(both, 0),
        "top-half-resnet-next-third-vit": min(upper - 0.25, 0.7 - upper),
        "vit-top-differs": -plain.top_less(both),
    }
    for claim, margin in expected.items():
        assert lines[claim].split(", ")[seed] == f"{margin:.3g}", claim


def sidecars(study):
    return [json.loads(path.read_text()) for path in sorted((ROOT / study).glob("*/*.json"))]


def test_what_is_committed_is_small():
    sizes = {path: path.stat().st_size for path in ROOT.rglob("*") if path.is_file()}
    assert max(sizes.values()) < 2e6, max(sizes, key=lambda path: sizes[path])
    assert sum(sizes.values()) < 40e6


def test_the_study_of_released_networks_says_what_made_it():
    """A clean commit, the same photographs, the weights of two networks, and twins that have seen none."""
    records = [record for record in sidecars("real") if record["analysis"] != "probe"]
    assert {len(record["environment"]["git_commit"]) for record in records} == {40}, "-dirty"
    assert len({record["data"]["fingerprint"] for record in records}) == 1
    subjects = {subject["name"]: subject for record in sidecars("real") for subject in record["subjects"]}
    assert {"dinov2_small", "resnet50_thin"} <= set(subjects)
    for name, subject in subjects.items():
        assert subject["random"] == name.endswith("_random")
        assert not subject["spec"].startswith(("/", "hf@/"))
    hashes = {(s["name"], s["weights_sha256"]) for record in sidecars("real") for s in record["subjects"]}
    assert len(hashes) == len(subjects)  # one name, one set of weights
