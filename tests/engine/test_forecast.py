"""--dry-run: what a run would look at, and why it takes so many passes."""

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
