"""Tables of real runs, with the groups that their analyses filed: every margin has its interval."""

import copy
import dataclasses

import pytest

import tf_vitcnn
from tests import toys
from tf_vitcnn.analyses.cka.claims import resnet_stages, uniform_vit
from tf_vitcnn.analyses.skip_ratio.claims import skip_stronger_in_vit
from tf_vitcnn.verdicts.claim import judge
from tf_vitcnn.verdicts.evidence import Result


@pytest.fixture(scope="module")
def results():
    vit, resnet = toys.vit(size=(32, 32), depth=3), toys.resnet(size=(32, 32), units=(1, 1, 1))
    found = []
    for subject in (vit, resnet):
        settings = {"cka": {"images": 80, "batch": 20, "repeats": 1}, "skip_ratio": {"images": 40}}
        for name, setting in settings.items():
            table = tf_vitcnn.run(name, subject, "digits:train", **setting)
            found.append(Result.of(table, f"{name}/{subject.name}.csv"))
    return found


def trained(results):
    """The same under records that say so."""
    made = []
    for result in results:
        sidecar = copy.deepcopy(result.sidecar)
        for subject in sidecar["subjects"]:
            subject.update(random=False, name=f"{subject['name']}_trained")
        made.append(dataclasses.replace(result, sidecar=sidecar, memo={}))
    return made


@pytest.mark.parametrize("claim", [uniform_vit, resnet_stages, skip_stronger_in_vit], ids=lambda claim: claim.id)
def test_margins_have_intervals(results, claim):
    (verdict,) = judge([*trained(results), *results], [claim])
    assert verdict.low < verdict.deciding.margin < verdict.high
    assert verdict.note == ""
    # the networks are the random ones: what they show is free
    assert verdict.baseline.low == pytest.approx(verdict.low)
    assert verdict.origin == ("free" if verdict.word == "holds" else "")
