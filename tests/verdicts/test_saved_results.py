"""What the committed tables say is what is committed as their verdicts."""

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
    assert settings.value == pytest.approx(0.0147, abs=5e-5)
    assert f"{settings.value:.4f}" in (ROOT / "tiny_imagenet/README.md").read_text()
