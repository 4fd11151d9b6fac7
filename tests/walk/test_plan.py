"""What fits: on a device what its compiler keeps counts, not every tap."""

import math
from collections import Counter

import keras
import pytest

from tests import toys
from tf_vitcnn import surgery
from tf_vitcnn.analyses.base import Run
from tf_vitcnn.analyses.cka.analysis import CKA
from tf_vitcnn.walk import plan
from tf_vitcnn.walk.plan import RUNTIME, STACKS, hsic_bytes, plan_grams, plan_images


def test_a_device_holds_images_once_filed_taps_and_stacks_while_they_are_multiplied():
    vit = toys.shared("vit")
    bound = Run((vit,), (vit.taps[1:3],), images=64, batch=32)
    here, there = (plan_grams([CKA()], [bound], 1e15, 1, kind).expected for kind in ("CPU", "TPU"))
    assert here > there + RUNTIME > RUNTIME
    narrow = plan_grams([CKA(precision="bfloat16")], [bound], 1e15, 1, "TPU").expected
    filed = 4 * sum(math.prod(vit.model.output[tap].shape[1:]) for tap in bound.taps[0])
    assert there - narrow == pytest.approx(32 * filed / 2)  # bfloat16 takes half
    taps = tuple(tap for tap in vit.taps if tap.endswith("out"))
    many = Run((vit,), (taps,), images=20_000, batch=10_000)  # Gram matrices are wider than taps now
    weights, images = 4 * vit.model.count_params(), 10_000 * 4 * math.prod(vit.model.inputs[0].shape[1:])
    assert plan_grams([CKA()], [many], 1e15, 1, "TPU").expected == pytest.approx(
        weights + images + STACKS * len(taps) * hsic_bytes(10_000)
    )


def test_micro_batches_on_devices_are_whole_tiles(monkeypatch):
    vit = toys.shared("vit")
    bound = Run((vit,), (vit.taps[1:3],), images=64, batch=64)
    monkeypatch.setattr(plan, "TRANSIENT", 46.5 * plan._widest(vit, Counter(vit.taps), None))
    assert plan._micro(bound, [True], 1e15, "CPU") == 46
    held = plan.WALKED * surgery.live(vit.model, list(vit.taps))
    assert [plan._micro(bound, [True], 8 * held * images, "TPU") for images in (46.5, 1e9)] == [32, 64]


def test_segments_on_a_device_are_cut_until_they_fit():
    vit = toys.shared("vit")
    taps = tuple(tap for tap in vit.taps if not tap.endswith(("scores", "probs")))
    bound = Run((vit,), (taps,), images=64, batch=64)
    whole = plan_grams([CKA()], [bound], 1e15, 1, "TPU").expected
    for share in (0.9, 0.8, 0.7):
        assert plan_grams([CKA()], [bound], share * whole, 1, "TPU").expected <= share * whole


def test_a_compiled_step_holds_what_is_live_not_all_taps():
    vit = toys.shared("vit")
    bound = Run((vit,), (tuple(vit.taps),), images=64, batch=32)
    small, large = (plan_images(bound, bound.taps[0][:count], 1e15, None, 1, "TPU").expected for count in (5, 60))
    assert small == pytest.approx(large, rel=0.1)
    fewer = plan_images(bound, bound.taps[0], small / 2 + 4 * vit.model.count_params() / 2, None, 1, "TPU")
    assert 1 <= fewer.micro < 32 and fewer.expected < small


def test_what_is_live_is_what_a_call_reads_gives_and_leaves():
    x = keras.Input((10,))
    wide = keras.layers.Dense(100)(x)
    out = keras.layers.Dense(7)(keras.layers.Activation("relu")(wide))
    sum_ = keras.layers.Concatenate()([x, out])
    model = keras.Model(x, {"wide": wide, "sum": sum_})
    assert surgery.live(model, ["wide", "sum"]) == 4 * (10 + 100 + 100)
    assert surgery.live(model, ["wide"]) == 4 * (10 + 100)
