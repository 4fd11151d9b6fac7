"""A run that is stopped at any boundary between steps goes on to the same bytes, whatever its machine is like then."""

import dataclasses

import pytest
import tensorflow as tf
from etils import epath

from tests import toys
from tf_vitcnn import analyses
from tf_vitcnn.analyses.base import PerMinibatch
from tf_vitcnn.devices import cores, memory
from tf_vitcnn.engine import door
from tf_vitcnn.engine.execute import Checkpoint, tables
from tf_vitcnn.engine.passes import shared
from tf_vitcnn.engine.request import Request
from tf_vitcnn.engine.session import Session
from tf_vitcnn.errors import BadInput
from tf_vitcnn.walk import gram_sums, plan

# what an analysis needs to have several steps on toys; a new one runs with the defaults of its kind
FIELDS = {
    "cka": {"repeats": 2},
    "probe": {"test": "digits:test", "shots": 3, "readouts": ("cls", "gap")},
    "receptive_field": {"channels": 2},
}
IMAGES = {"receptive_field": 3, "probe": None}
ROOM = {"probe": 2e-5}  # gigabytes, for several groups of layers


class Stopped(BaseException):
    """No one catches it."""


@pytest.fixture
def boundary(monkeypatch):
    """Saves at every boundary between steps; `stop` is the number of the one after which the run ends."""
    seen = {"passed": 0, "stop": None}
    save = Checkpoint.save

    def counted(self, state, force=False):
        save(self, state, force=True)
        seen["passed"] += 1
        if seen["passed"] == seen["stop"]:
            raise Stopped

    monkeypatch.setattr(Checkpoint, "save", counted)
    monkeypatch.setattr(gram_sums, "LARGE", 0)  # all Grams by the host's cores
    return seen


@pytest.fixture(scope="module")
def subjects():
    tf.keras.utils.set_random_seed(0)
    return toys.vit(), toys.resnet()


def run(name, subjects, directory=None, **more):
    kind = analyses.find(name)
    known = {f.name for f in dataclasses.fields(kind)}
    fields = {k: v for k, v in FIELDS.get(name, {}).items() if k in known}
    least = 12 if name == "similarity" else 8  # ten neighbours and the image itself
    size = {"batch": least, "images": 2 * least} if issubclass(kind, PerMinibatch) else {"images": IMAGES.get(name, 80)}
    against = subjects[1] if kind.against == "must" else None
    setting = {**size, **fields, **more}
    table = door.run(name, subjects[0], "digits:train", against, resume_dir=directory and str(directory), **setting)
    return table.to_csv(index=False, float_format="%.6g")


def on_another_machine(monkeypatch, name, what):
    """A context in which the machine differs, and what is then asked for."""
    asked = {}
    if what in ("memory", "everything"):
        monkeypatch.setattr(memory, "machine", lambda: 20e9 if name in ROOM else 3e9)
    if what in ("micro-batches", "everything"):
        monkeypatch.setattr(plan, "TRANSIENT", plan.TRANSIENT / 1e5)
        asked = {} if issubclass(analyses.find(name), PerMinibatch) else {"batch": 2}
    if what in ("cores", "everything"):
        monkeypatch.setattr(cores, "count", lambda: 3)
    return asked


def interrupted(name, subjects, boundary, monkeypatch, directory, stop, what):
    boundary.update(passed=0, stop=stop)
    with pytest.raises(Stopped):
        run(name, subjects, directory, memory=ROOM.get(name))
    boundary.update(stop=None)
    with monkeypatch.context() as other:
        return run(name, subjects, directory, **on_another_machine(other, name, what))


@pytest.mark.parametrize("name", analyses.names())
def test_goes_on_to_the_same_bytes_on_another_machine(name, subjects, boundary, monkeypatch, tmp_path):
    whole = run(name, subjects, memory=ROOM.get(name))
    assert boundary["passed"] > 1
    again = interrupted(name, subjects, boundary, monkeypatch, tmp_path, boundary["passed"] // 2, "everything")
    assert again == whole
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("what", ["memory", "micro-batches", "cores"])
@pytest.mark.parametrize("name", analyses.names())
def test_goes_on_from_every_boundary(name, what, subjects, boundary, monkeypatch, tmp_path):
    whole = run(name, subjects, memory=ROOM.get(name))
    for stop in range(1, boundary["passed"] + 1):
        assert interrupted(name, subjects, boundary, monkeypatch, tmp_path, stop, what) == whole, stop
        assert not list(tmp_path.iterdir())


def test_another_machine_is_another(subjects, boundary, monkeypatch, tmp_path):
    """What the tests above change would change the run if it were begun so."""
    with Session(
        Request((analyses.find("probe")(**FIELDS["probe"]),), "digits:train", quiet=True), subjects[0], None
    ) as s:
        probe, run = s.request.analyses[0], s.runs[0]
        small = dataclasses.replace(run, memory=int(ROOM["probe"] * 1e9), host=int(ROOM["probe"] * 1e9))
        assert len(probe.plan(run).groups) == 1 < len(probe.plan(small).groups)


def test_goes_on_with_the_bfloat16_product_that_it_was_begun_with(subjects, boundary, monkeypatch, tmp_path):
    def narrow(units, directory=None):
        with monkeypatch.context() as machine:
            machine.setattr(cores, "bfloat16_units", lambda: units)
            return run("cka", subjects, directory, precision="bfloat16")

    whole = narrow(True)
    assert narrow(False) != whole
    boundary.update(passed=0, stop=1)
    with pytest.raises(Stopped):
        narrow(True, tmp_path)
    boundary.update(stop=None)
    assert narrow(False, tmp_path) == whole


def test_less_memory_than_the_run_takes_is_refused_by_its_reason(subjects, boundary, tmp_path):
    boundary.update(passed=0, stop=1)
    with pytest.raises(Stopped):
        run("skip_ratio", subjects, tmp_path)
    boundary.update(stop=None)
    with pytest.raises(BadInput, match=r"begun with \d+\.\d GB and takes 0\.9: pass --memory 1 or more"):
        run("skip_ratio", subjects, tmp_path, memory=0.5)
    assert run("skip_ratio", subjects, tmp_path, memory=1) == run("skip_ratio", subjects)


def together(subjects, directory, passes):
    """cka and localization of one command, which have room for so many passes."""
    both = (door.make("cka", FIELDS["cka"]), door.make("localization", {}))
    request = Request(both, "digits:train", images=32, batch=16, quiet=True)
    with Session(request, subjects[0], None) as session:
        if passes:
            low, high = 1, int(4e9)
            while high - low > 1:
                middle = (low + high) // 2
                fits = len(shared(both, session.runs, middle, session.replicas)) == 1
                low, high = (low, middle) if fits else (middle, high)
            session.room = dataclasses.replace(session.room, device=high if passes == 1 else low)
            assert len(shared(both, session.runs, session.budget, session.replicas)) == passes
        return [t.to_csv(index=False, float_format="%.6g") for t in tables(session, directory / "waiting.npz")]


@pytest.mark.parametrize(("before", "now"), [(1, 2), (2, 1)])
def test_passes_stay_as_they_were_begun(subjects, boundary, tmp_path, before, now):
    directory = epath.Path(tmp_path)
    whole = together(subjects, directory, before)
    steps, boundary["passed"], boundary["stop"] = boundary["passed"], 0, 3
    with pytest.raises(Stopped):
        together(subjects, directory, before)
    boundary.update(stop=None)
    assert together(subjects, directory, now) == whole
    assert boundary["passed"] == steps == {1: 4, 2: 6}[before]
    assert not list(tmp_path.iterdir())
