"""Equal blocks are found to be alike, and nothing else is."""

from functools import partial

import keras
import numpy as np
import pytest

from tests import toys
from tf_vitcnn.surgery import Likeness, segments


def kinds(model, taps=None, budget=None):
    return [piece.likeness[0] for piece in segments(model, taps or list(model.output), budget)]


def of_blocks(*args):
    """The kinds of four blocks, each a segment; the fifth and last hands nothing on."""
    found = kinds(blocks(*args), budget=64)
    assert len(found) == 5
    return set(found[:4])


def blocks(change=lambda i: {}, layer=keras.layers.Dense, count=5):
    """A chain of residual blocks whose layers differ by `change(i)`."""
    x = images = keras.Input((8,))
    ends = []
    for i in range(count):
        y = layer(8, name=f"dense{i}", **change(i))(keras.layers.LayerNormalization(name=f"norm{i}")(x))
        x = keras.layers.Add(name=f"post{i}")([x, keras.ops.gelu(y) * 2.0])
        ends.append(x)
    return keras.Model(images, {f"post{i}": t for i, t in enumerate(ends)})


def test_a_vit_has_as_many_programs_at_any_depth():
    assert len(kinds(toys.vit(depth=12).model)) > 8
    for budget in (None, 1e4, 2e4):
        assert max(len(set(kinds(toys.vit(depth=depth).model, budget=budget))) for depth in (4, 7, 12)) <= 5


def test_units_of_a_stage_are_alike_and_stages_are_not():
    found = kinds(toys.resnet((32, 32), units=(9, 9)).model)
    assert 2 <= len(set(found)) < len(found) - 2


def test_foreign_blocks_opened_by_surgery_are_alike():
    assert len(of_blocks()) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda i: {"activation": ["relu", "tanh", "gelu", "selu", "elu"][i]},
        lambda i: {"use_bias": i != 2},
        lambda i: {"dtype": "bfloat16" if i == 1 else "float32"},
    ],
)
def test_what_computes_otherwise_is_not(change):
    assert len(of_blocks(change)) > 1


class Shifted(keras.layers.Dense):
    """A layer whose number no config tells."""

    def __init__(self, units, shift, **kwargs):
        super().__init__(units, **kwargs)
        self.shift = shift

    def call(self, x):
        return super().call(x) + self.shift


def test_attributes_count_whether_or_not_a_config_tells_them():
    assert len(of_blocks(lambda i: {"shift": 1.0}, Shifted)) == 1
    assert len(of_blocks(lambda i: {"shift": float(i)}, Shifted)) == 4
    assert len(of_blocks(lambda i: {"shift": np.full(3, i // 2)}, Shifted)) == 2
    assert len(of_blocks(lambda i: {"shift": object()}, Shifted)) == 4


def test_weights_used_twice_are_not_like_two_weights():
    images = keras.Input((8,))
    first, second, third = (keras.layers.Dense(8) for _ in range(3))
    one = keras.Model(images, {"y": first(first(images))})
    two = keras.Model(images, {"y": second(third(images))})
    assert kinds(one) != kinds(two)


def test_weights_come_in_the_order_of_their_use():
    (_, mine), (_, others) = (
        piece.likeness for piece in segments(blocks(count=3), ["post0", "post1", "post2"], 64)[:2]
    )
    assert [w.path.replace("0", "1") for w in mine] == [w.path for w in others]


def test_functions_are_alike_when_their_code_and_what_they_hold_is():
    def scaled(factor):
        return lambda x: x * factor

    same = [Likeness().of(f) for f in (scaled(2), scaled(2), scaled(3), partial(max, 1), partial(max, 1))]
    assert same[0] == same[1] != same[2]
    assert same[3] == same[4]


def test_a_segment_on_other_weights_is_the_other_segment():
    one, other, _ = segments(blocks(count=3), ["post0", "post1", "post2"], 64)
    carry = tuple(np.random.default_rng(0).normal(size=(3, *t.shape[1:])).astype("float32") for t in one.reads)
    with keras.StatelessScope(list(zip(one.likeness[1], [w.value for w in other.likeness[1]], strict=True))):
        _, borrowed = one(carry)
    for a, b, own in zip(borrowed, other(carry)[1], one(carry)[1], strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, own)
