"""--dry-run: what a run would look at, and why it takes so many passes."""

from dataclasses import replace

from tests import toys
from tf_vitcnn.analyses.cka.analysis import CKA
from tf_vitcnn.engine.forecast import forecast
from tf_vitcnn.engine.request import Request
from tf_vitcnn.engine.session import Session


def test_taps_are_one_line_and_repeats_are_explained():
    request = Request((CKA(repeats=3),), "noise:16", images=17, batch=8, quiet=True)
    with Session(request, toys.shared("vit"), None) as session:
        taps, work, cost = forecast(session).splitlines()
    assert taps.startswith("cka: toy_vit: ") and "block00..01/{" in taps
    assert work.startswith("cka: 17 images, in 2 minibatches of 8, drawn 3 times (--repeats), in micro-batches of ")
    assert "; 48 forward passes of each model, " in cost


def test_what_takes_long_is_said_before_with_what_takes_less(monkeypatch):
    from tf_vitcnn.analyses.receptive_field.analysis import ReceptiveField
    from tf_vitcnn.analyses.skip_ratio.analysis import SkipRatio
    from tf_vitcnn.engine import forecast as module

    monkeypatch.setattr(module, "_seconds_per_image", lambda subject, micro: 2.0)
    request = Request((ReceptiveField(channels=24), SkipRatio()), "noise:16", images=15, quiet=True)
    with Session(request, toys.shared("vit"), None) as session:
        (line,) = module.slow(session)
        # a forward pass of each of 16 channels, and half of one for each of four additions
        assert line == "receptive_field: about 24 min on this machine; --channels 8 takes about 12"
        session.request = replace(session.request, analyses=(ReceptiveField(channels=8), SkipRatio()))
        assert module.slow(session) == ["receptive_field: about 12 min on this machine"]
        monkeypatch.setattr(module, "LONG", 13)
        assert module.slow(session) == []
