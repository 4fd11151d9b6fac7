"""What the committed tables say is what is committed as their verdicts."""

import json
from pathlib import Path

import pytest
from etils import epath

from tf_vitcnn.report.collect import all_claims, gather
from tf_vitcnn.verdicts.claim import judge
from tf_vitcnn.verdicts.seeds import over_seeds
from tf_vitcnn.verdicts.verdict import to_csv

ROOT = Path(__file__).resolve().parents[2] / "saved_results"


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
    assert f"{settings.value:.4f}" in (ROOT / "tiny_imagenet/README.md").read_text()


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
