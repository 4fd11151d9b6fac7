"""Files are whole or not there, one alone or several that belong together, and leftovers of the dead are removed."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tf_vitcnn.errors import BadInput
from tf_vitcnn.tables.files import discard_parts, replacing, write, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(ZeroDivisionError), replacing(path) as part:
        part.write_text("half")
        assert part.suffix == ".txt" and part.name.startswith(".a.")  # a format is chosen by the suffix
        raise ZeroDivisionError
    assert path.read_text() == "old" and names(tmp_path) == ["a.txt"]


def test_files_that_belong_together_never_stand_beside_old_ones(tmp_path, monkeypatch):
    csv, json, extra = (tmp_path / name for name in ("a.csv", "a.json", "a.npz"))
    write({extra: b"old", json: b"old", csv: b"old"})
    replace = type(tmp_path).replace
    seen = []

    def watched(self, target):
        replace(self, target)
        seen.append(names(tmp_path))

    monkeypatch.setattr("tf_vitcnn.tables.files.epath.Path", type(tmp_path))
    monkeypatch.setattr(type(tmp_path), "replace", watched)
    write({json: b"new", csv: b"new"}, outdated=[extra])
    # after the first rename there is no CSV, so no table; the outdated file is gone before
    assert [name for name in seen[0] if not name.startswith(".")] == ["a.json"]
    assert names(tmp_path) == ["a.csv", "a.json"]


def test_a_refusal_names_the_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"file/a\.txt: cannot be written"):
        write_text(tmp_path / "file" / "a.txt", "x")


def test_parts_of_the_dead_go_and_those_of_the_living_stay(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for process in (dead.pid, os.getpid(), os.getppid(), 2**40):
        (tmp_path / f".a[1].{process}.part.csv").write_text("half")
    (tmp_path / ".a[1].x.part.csv").write_text("somebody's")
    discard_parts(tmp_path / "a[1].csv", tmp_path / "nowhere" / "b.csv")
    assert names(tmp_path) == sorted([f".a[1].{os.getppid()}.part.csv", ".a[1].x.part.csv"])


def test_files_and_states_in_a_bucket(tmp_path, monkeypatch):
    from tests import bucket
    from tf_vitcnn.tables import state

    monkeypatch.setenv(bucket.ROOT, str(tmp_path))
    write({"gs://b/a.json": b"old", "gs://b/a.csv": b"old"})
    write({"gs://b/a.json": b"new", "gs://b/a.csv": b"new"})
    state.save("gs://b/.a.resume.npz", {"step": 3}, {"totals:x": np.arange(4)})
    with state.reading("gs://b/.a.resume.npz", "a state") as (header, arrays):
        assert header == {"step": 3} and list(arrays["totals:x"]) == [0, 1, 2, 3]
    discard_parts("gs://b/a.csv")
    assert names(tmp_path / "b") == [".a.resume.npz", "a.csv", "a.json"]
    assert (tmp_path / "b" / "a.csv").read_bytes() == b"new"
