"""Ctrl-C: the step is ended and saved first, and the same command goes on to the same numbers."""

import signal

import pandas as pd
import pytest
from etils import epath

from tests import toys
from tf_vitcnn.analyses.cka.analysis import CKA
from tf_vitcnn.analyses.skip_ratio.analysis import SkipRatio
from tf_vitcnn.engine.execute import tables
from tf_vitcnn.engine.interrupt import between_steps
from tf_vitcnn.engine.progress import ProgressBar
from tf_vitcnn.engine.request import Request
from tf_vitcnn.engine.session import Session


def made(analysis, checkpoint=None):
    request = Request((analysis,), "noise:16", images=16, batch=8, taps=("block00/*",), quiet=True)
    with Session(request, toys.shared("vit"), None) as session:
        return tables(session, checkpoint)[0]


@pytest.mark.parametrize("analysis", [SkipRatio(), CKA(repeats=2)], ids=["per image", "per minibatch"])
def test_a_run_that_is_stopped_says_what_it_saved_and_goes_on(analysis, tmp_path, monkeypatch, capsys):
    whole = made(analysis)
    waiting = epath.Path(tmp_path / "x.resume.npz")
    with monkeypatch.context() as once:
        once.setattr(ProgressBar, "add", lambda *_: signal.raise_signal(signal.SIGINT) if not asked() else None)
        asked = lambda said=[]: said.append(0) or len(said) > 1  # noqa: E731 (counts its calls)
        with pytest.raises(KeyboardInterrupt, match=r"interrupted after step \d; .*x\.resume\.npz keeps what was done"):
            made(analysis, waiting)
    assert "Ctrl-C again stops at once" in capsys.readouterr().err
    assert waiting.exists()
    pd.testing.assert_frame_equal(made(analysis, waiting), whole, check_exact=True)
    assert not waiting.exists()


def test_a_second_one_stops_at_once_and_afterwards_ctrl_c_is_pythons_again():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="at once"), between_steps() as interrupt:
        signal.raise_signal(signal.SIGINT)
        assert interrupt.asked
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_without_a_place_to_save_it_stops_at_once():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever ran before in this process
    try:
        with pytest.raises(KeyboardInterrupt), between_steps(saves=False):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
