"""--compute: what products inside a network take their inputs in."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_vitcnn
from tests import toys
from tf_vitcnn.devices.precision import CHOICES, ROUND, in_precision
from tf_vitcnn.errors import BadInput


def rounded(x, bits):
    """The nearest number with so many bits of mantissa, in float64, even ones at ties."""
    mantissa, exponent = np.frexp(np.asarray(x, np.float64))
    return np.ldexp(np.round(mantissa * 2.0 ** (bits + 1)) / 2.0 ** (bits + 1), exponent)


@pytest.mark.parametrize(("compute", "bits"), [("tensorfloat32", 10), ("bfloat16", 7)])
def test_inputs_are_the_nearest_numbers_of_so_many_bits(compute, bits):
    x = np.random.default_rng(0).standard_normal(10_000).astype(np.float32) * 100
    x = np.concatenate([x, [0, 1 + 2.0**-11, 1 + 3 * 2.0**-11, 1 + 2.0**-8, -np.inf]]).astype(np.float32)
    np.testing.assert_array_equal(ROUND[compute](tf.constant(x)), rounded(x, bits).astype(np.float32))


LAYERS = {
    "dense": lambda: (keras.layers.Dense(5, use_bias=False), (8,)),
    "einsum": lambda: (keras.layers.EinsumDense("btd,dne->btne", (3, 2, 4)), (3, 8)),
    "convolution": lambda: (keras.layers.Conv2D(4, 3, use_bias=False), (6, 6, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(("compute", "bits"), [("tensorfloat32", 10), ("bfloat16", 7)])
def test_a_layer_is_itself_on_rounded_inputs_and_weights(name, compute, bits):
    layer, shape = LAYERS[name]()
    x = np.random.default_rng(1).standard_normal((7, *shape)).astype(np.float32)
    layer(x)
    with in_precision(compute):
        found = layer(x).numpy()
    exact = layer(x).numpy()
    layer.set_weights([rounded(w, bits).astype(np.float32) for w in layer.get_weights()])
    np.testing.assert_allclose(found, layer(rounded(x, bits).astype(np.float32)).numpy(), rtol=1e-5, atol=1e-5)
    assert found.dtype == np.float32 and not np.array_equal(found, exact)


def test_gradients_pass_what_is_rounded():
    layer = keras.layers.Dense(5, use_bias=False)
    x = tf.ones([2, 8])
    layer(x)
    for compute in CHOICES:
        with in_precision(compute), tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x))
        np.testing.assert_allclose(tape.gradient(loss, layer.kernel.value), np.full((8, 5), 2.0))


def test_afterwards_products_are_exact_again():
    before = keras.src.backend.numpy.matmul
    with pytest.raises(ZeroDivisionError), in_precision("bfloat16"):
        assert keras.src.backend.numpy.matmul is not before
        raise ZeroDivisionError
    assert keras.src.backend.numpy.matmul is before


def test_a_table_says_what_was_computed_in_and_moves_by_as_much():
    tables = {
        compute: tf_vitcnn.run("skip_ratio", toys.shared("vit"), "digits:test", images=8, compute=compute)
        for compute in CHOICES
    }
    exact = tables["float32"].ratio.to_numpy()
    moved = [np.abs(tables[c].ratio / exact - 1).max() for c in ("tensorfloat32", "bfloat16")]
    assert 0 < moved[0] < 2e-3 and moved[0] < moved[1] < 2e-2
    for compute, table in tables.items():
        sidecar = table.attrs["sidecar"]
        assert sidecar["environment"]["compute"] == compute
        assert ("compute" in sidecar["parameters"]) == (compute != "float32")
        json.dumps(sidecar)


def test_another_word_is_refused_before_anything_is_loaded():
    with pytest.raises(BadInput, match=r"--compute 'float8'.*float32, tensorfloat32, bfloat16"):
        tf_vitcnn.run("skip_ratio", "vit_b32", "digits:test", compute="float8")
