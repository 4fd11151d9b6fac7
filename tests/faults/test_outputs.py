"""An output directory removed under a run, or wanted by two: made again, refused in one line, never a traceback."""

import shutil
import signal
import subprocess
import sys

import pytest

from tests.faults.processes import finish, names, start, until
from tests.faults.test_kills import analyze, same_tables, same_training, train

BOTH = pytest.mark.parametrize(
    ("words", "waiting", "same"),
    [(analyze, "cka/.vit_ti16.resume.npz", same_tables), (train, "m.state.npz", same_training)],
    ids=["analyze", "train"],
)


def remove(directory):
    """The directory, away for a moment at least, though a run writes into it."""
    for _ in range(100):
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            return
    raise AssertionError(f"{directory} comes back too fast")


@pytest.mark.slow
@BOTH
def test_removed_directory_is_made_again_and_two_runs_cannot_share_one(tmp_path, words, waiting, same):
    whole = start(words(tmp_path / "whole"))
    until((tmp_path / "whole" / waiting).exists, whole)
    whole.send_signal(signal.SIGSTOP)  # it would be done before the second one has started
    second = finish(start(words(tmp_path / "whole")))
    whole.send_signal(signal.SIGCONT)
    assert second[0] == 2 and len(second[1]) == 1
    assert "another run is writing this output" in second[1][0] or "trained by another process" in second[1][0]
    assert finish(whole)[0] == 0

    out = tmp_path / "removed"
    run = start(words(out))
    until((out / waiting).exists, run)
    remove(out)
    status, said = finish(run)
    # between making the directory and writing into it there is a moment: then one line, and the command goes on
    if status:
        assert status == 2 and "cannot be written" in said[-1] and not any("Traceback" in line for line in said), said
        assert finish(start(words(out)))[0] == 0
    same(tmp_path / "whole", out)
    print(f"{words(0)[0]}: the second of two runs refused; a removed directory {'named' if status else 'made again'}")


@pytest.mark.slow
@BOTH
def test_directory_that_cannot_be_made_again_is_one_line(tmp_path, words, waiting, same):
    out = tmp_path / "out" / "deep"
    run = start(words(out))
    until((out / waiting).exists, run)
    aside = tmp_path / "aside"
    (tmp_path / "out").rename(aside)
    (tmp_path / "out").write_text("a file where the directory was")
    status, said = finish(run)
    assert status == 2 and "cannot be written" in said[-1], said
    assert not any("Traceback" in line for line in said)
    (tmp_path / "out").unlink()
    aside.rename(tmp_path / "out")
    assert finish(start(words(out)))[0] == 0  # goes on with what it had


def test_lock_of_a_killed_run_is_free(tmp_path):
    from tf_vitcnn.engine.resume import Lock
    from tf_vitcnn.errors import BadInput

    path = tmp_path / "x.lock"
    take = f"lock = Lock({str(path)!r}); lock.__enter__()"  # kept by its name: the lock goes with the last reference
    code = f"from tf_vitcnn.engine.resume import Lock; {take}; print(1, flush=True); input()"
    owner = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    owner.stdout.readline()
    with pytest.raises(BadInput, match="another run"), Lock(path):
        pass
    owner.kill()
    owner.communicate()
    with Lock(path):
        assert path.exists()
    assert names(tmp_path) == []


def test_lock_in_a_removed_directory_leaves_the_next_ones_alone(tmp_path):
    from tf_vitcnn.engine.resume import Lock

    path = tmp_path / "out" / "x.lock"
    with Lock(path):
        shutil.rmtree(tmp_path / "out")
        with Lock(path):
            other = path.stat().st_ino
        assert not path.exists()
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert path.exists() and other
