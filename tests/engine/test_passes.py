"""Analyses named together: one pass over the data where they can, and the tables of separate runs to the byte."""

import pytest
import tensorflow as tf
from etils import epath

from tests import toys
from tf_vitcnn.analyses.base import Run
from tf_vitcnn.analyses.cka.analysis import CKA
from tf_vitcnn.analyses.head_subsets.analysis import HeadSubsets
from tf_vitcnn.analyses.localization.analysis import Localization
from tf_vitcnn.analyses.receptive_field.analysis import ReceptiveField
from tf_vitcnn.analyses.skip_ratio.analysis import SkipRatio
from tf_vitcnn.devices.replicas import Replicas
from tf_vitcnn.devices.strategy import named_strategy
from tf_vitcnn.engine import resume
from tf_vitcnn.engine.door import run
from tf_vitcnn.engine.execute import tables
from tf_vitcnn.engine.passes import shared
from tf_vitcnn.engine.request import Request
from tf_vitcnn.engine.resume import Checkpoint, Place
from tf_vitcnn.engine.session import Session
from tf_vitcnn.errors import BadInput
from tf_vitcnn.taps import select
from tf_vitcnn.walk.grams import GramWalk
from tf_vitcnn.walk.plan import plan_grams

IMAGES, BATCH = 50, 12
REPLICAS = Replicas(named_strategy("cpu"))


def text(table):
    return table.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def together(analyses, against=None, checkpoint=None):
    request = Request(analyses, "digits:test", images=IMAGES, batch=BATCH, quiet=True)
    with Session(request, toys.shared("vit"), against) as session:
        return [text(table) for table in tables(session, checkpoint)]


def alone(analyses, against=None):
    vit = toys.shared("vit")
    return [text(run(a, vit, "digits:test", against, images=IMAGES, batch=BATCH)) for a in analyses]


@pytest.fixture
def steps(monkeypatch):
    """How many minibatches were walked; raise at the one that `stop` names."""
    seen = {"walked": 0, "stop": None}
    step = GramWalk.step

    def counted(self, *args):
        if seen["walked"] == seen["stop"]:
            raise KeyboardInterrupt
        seen["walked"] += 1
        return step(self, *args)

    monkeypatch.setattr(GramWalk, "step", counted)
    return seen


PAIRS = [
    ((Localization(), CKA(repeats=2, biased=True)), None, 8),
    ((CKA(repeats=1, all_pairs=True), HeadSubsets()), "resnet", 4),
]


@pytest.mark.parametrize(("analyses", "against", "minibatches"), PAIRS, ids=["one model", "two models"])
def test_a_shared_pass_gives_the_tables_of_separate_ones(analyses, against, minibatches, steps):
    other = toys.shared(against) if against else None
    found = together(analyses, other)
    assert steps["walked"] == minibatches
    assert found == alone(analyses, other)


def test_replicas_in_one_step_may_be_at_different_draws():
    both = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with both.scope():
        vit = toys.vit()
    analyses = PAIRS[0][0]
    setting = {
        "images": 36,
        "batch": BATCH,
    }  # three minibatches: the second step has the last and the next draw's first
    with Session(Request(analyses, "digits:test", **setting, quiet=True), vit, None, both) as session:
        found = [text(table) for table in tables(session)]
    assert found == [text(run(a, vit, "digits:test", strategy=both, **setting)) for a in analyses]


@pytest.mark.parametrize("stop", [2, 6], ids=["both under way", "one is done"])
def test_a_shared_pass_goes_on_where_it_was_killed(stop, steps, tmp_path, monkeypatch):
    analyses = PAIRS[0][0]
    whole = together(analyses)
    monkeypatch.setattr(resume, "EVERY", 0)
    steps.update(walked=0, stop=stop)
    with pytest.raises(KeyboardInterrupt):
        together(analyses, checkpoint=tmp_path / "waiting.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["waiting.npz"]
    steps.update(stop=None)
    assert together(analyses, checkpoint=tmp_path / "waiting.npz") == whole
    assert steps["walked"] == 8
    assert not list(tmp_path.iterdir())


def bound(images=IMAGES, batch=BATCH, taps="block0*/resid/post"):
    vit = toys.shared("vit")
    return Run((vit,), (tuple(select(vit.taps, [taps])),), images=images, batch=batch)


def test_who_shares():
    grams = (CKA(repeats=1), Localization())
    assert shared(grams, [bound(), bound()], 8e9, REPLICAS) == [[0, 1]]
    assert shared(grams, [bound(), bound(images=24)], 8e9, REPLICAS) == [[0], [1]]
    assert shared(grams, [bound(), bound(batch=10)], 8e9, REPLICAS) == [[0], [1]]
    others = (SkipRatio(), Localization(), ReceptiveField(), SkipRatio())
    assert shared(others, [bound()] * 4, 8e9, REPLICAS) == [[0, 3], [1], [2]]


def test_without_room_for_all_each_has_its_own_pass():
    grams, runs = (CKA(repeats=1), Localization()), [bound(2048, 2048, "block*"), bound(2048, 2048)]
    room = [plan_grams([a], [r], 8e9, 1).expected for a, r in zip(grams, runs, strict=True)]
    assert plan_grams(grams, runs, 8e9, 1).expected > max(room) + 1e8
    assert shared(grams, runs, max(room), REPLICAS) == [[0], [1]]
    assert shared(grams, runs, sum(room), REPLICAS) == [[0, 1]]


def test_a_checkpoint_whose_totals_have_other_names_is_refused(tmp_path, monkeypatch):
    where = epath.Path(tmp_path / "waiting.npz")
    with monkeypatch.context() as older:
        older.setattr(resume, "FORMAT", 1)
        Checkpoint(where, {"analysis": "cka"}).save(Place(step=3), force=True)
    with pytest.raises(BadInput, match="remove it to start anew"):
        Checkpoint(where, {"analysis": "cka"}).load()
    Checkpoint(where, {"analysis": "cka"}).save(Place(step=3), force=True)
    assert Checkpoint(where, {"analysis": "cka"}).load().step == 3
