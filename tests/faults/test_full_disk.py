"""A disk that fills up while a table is written leaves the old table or none, and one line."""

import contextlib
import resource
import signal

import numpy as np
import pytest

from tests import synthetic
from tf_vitcnn.analyses import read_table
from tf_vitcnn.errors import BadInput
from tf_vitcnn.tables.write import write_table


@contextlib.contextmanager
def quota(size):
    """Files of this process may grow to `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def table(shift=0.0):
    few = synthetic.subject("vit_b32", blocks=1)
    made = synthetic.cka(few, few, lambda a, b: 0.5 + shift)
    made.attrs["groups"] = {"cka": np.full((20, len(made)), shift)}
    return made, synthetic.sidecar("cka", few, data="noise", images=64, batch=32, seed=int(4 * shift))


@pytest.mark.parametrize("size", [0, 100, 1000, 2500])
@pytest.mark.parametrize("there", [False, True])
def test_no_half_table(tmp_path, size, there):
    path = tmp_path / "cka" / "vit_b32"
    if there:
        write_table(path, *table())
    with quota(size), pytest.raises(BadInput, match=r"vit_b32\.csv: cannot be written: File too large"):
        write_table(path, *table(0.25))
    assert not list(tmp_path.rglob("*.part*"))
    if there:
        assert read_table(f"{path}.csv").attrs["sidecar"]["parameters"]["seed"] == 0
        assert (read_table(f"{path}.csv")["cka"] == 0.5).all()
        assert (read_table(f"{path}.csv").attrs["groups"]["cka"] == 0).all()
    else:
        assert not list(path.parent.glob("*"))


def test_no_table_where_nothing_may_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written"):
        write_table(tmp_path / "file" / "cka" / "vit_b32", *table())


def test_killed_between_the_two_files(tmp_path, monkeypatch):
    """A new table never stands beside an old sidecar."""
    path = tmp_path / "vit_b32"
    write_table(path, *table())
    replace = type(path).replace

    class Killed(BaseException):
        pass

    def once(self, target):
        replace(self, target)
        raise Killed

    monkeypatch.setattr("tf_vitcnn.tables.files.epath.Path", type(path))
    monkeypatch.setattr(type(path), "replace", once)
    with pytest.raises(Killed):
        write_table(path, *table(0.25))
    monkeypatch.undo()
    with pytest.raises(BadInput, match="no such file"):
        read_table(f"{path}.csv")
    write_table(path, *table(0.25))
    assert (read_table(f"{path}.csv").attrs["groups"]["cka"] == 0.25).all()
    assert (read_table(f"{path}.csv")["cka"] == 0.75).all()
