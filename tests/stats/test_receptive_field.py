"""Gradient maps of known convolutions, and against a loop of one gradient per channel."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import toys
from tests.stats.graphs import constants
from tf_vitcnn.stats.receptive_field import Place, gradient_maps, in_cells, in_chunks


def maps(model, image, places, rows=64):
    function = tf.function(lambda x: gradient_maps(model, x, places, in_chunks(places, rows)))
    return function(tf.constant(image)).numpy()


def convolution(kernel, strides=1):
    layer = keras.layers.Conv2D(kernel.shape[-1], kernel.shape[:2], strides, "same", use_bias=False)
    layer.build((None, None, None, kernel.shape[2]))
    layer.set_weights([kernel])
    return layer


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).standard_normal((12, 16, 3)).astype(np.float32)


def test_one_linear_convolution_gives_its_own_weights(image):
    kernel = np.random.default_rng(1).standard_normal((3, 5, 3, 4)).astype(np.float32)
    layer = convolution(kernel)
    place = Place(6 * 16 + 8, 12 * 16, np.arange(4))
    wanted = np.zeros((12, 16))
    wanted[5:8, 6:11] = np.abs(kernel).mean((2, 3))
    got = maps(lambda x: {"a": layer(x)}, image, {"a": place})
    np.testing.assert_allclose(got[0], wanted, rtol=1e-5, atol=1e-7)


def test_a_stack_of_positive_convolutions_convolves_their_weights_and_keeps_their_support(image):
    rng = np.random.default_rng(2)
    first, second = (rng.uniform(0.5, 1, (3, 3, i, 2)).astype(np.float32) for i in (3, 2))
    layers = [convolution(first), convolution(second)]
    place = Place(6 * 16 + 8, 12 * 16, np.arange(2))
    wanted = np.zeros((12, 16))
    for y in range(3):
        for x in range(3):  # all weights are positive, so the absolute value changes nothing
            through = np.einsum("yxab,bc->yxac", first, second[y, x])
            wanted[6 + y - 2 : 6 + y + 1, 8 + x - 2 : 8 + x + 1] += through.mean((2, 3))
    got = maps(lambda x: {"a": layers[1](layers[0](x))}, image, {"a": place})
    np.testing.assert_allclose(got[0], wanted, rtol=1e-5, atol=1e-7)
    assert np.array_equal(np.argwhere(got[0] > 0).min(0), [4, 6])
    assert np.array_equal(np.argwhere(got[0] > 0).max(0), [8, 10])


@pytest.fixture(scope="module")
def toy():
    """A nonlinear net with a map, a strided map and tokens, each with a different number of positions."""
    keras.utils.set_random_seed(3)
    x = keras.Input((12, 16, 3))
    a = keras.layers.Conv2D(6, 3, padding="same", activation="gelu")(x)
    b = keras.layers.Conv2D(6, 3, 2, padding="same", activation="gelu")(a)
    tokens = keras.layers.Reshape((48, 6))(b)
    mixed = keras.layers.LayerNormalization()(keras.layers.MultiHeadAttention(2, 3)(tokens, tokens))
    return keras.Model(x, {"a": a, "b": b, "tokens": mixed})


PLACES = {"a": Place(104, 192, np.arange(6)), "b": Place(28, 48, np.arange(6)), "tokens": Place(28, 48, np.arange(6))}


def looped(model, image, name, place):
    total = np.zeros(image.shape[:2])
    for channel in place.channels:
        x = tf.constant(image[None])
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = tf.reshape(model(x)[name], [place.positions, -1])[place.position, channel]
        total += np.abs(tape.gradient(value, x).numpy()[0]).mean(-1)
    return total / len(place.channels)


@pytest.mark.parametrize("rows", [1, 4, 5, 64])
def test_any_chunking_is_the_loop_over_channels(toy, image, rows):
    got = maps(toy, image, PLACES, rows)
    for i, (name, place) in enumerate(PLACES.items()):
        np.testing.assert_allclose(got[i], looped(toy, image, name, place), rtol=1e-4, atol=1e-7)


def test_a_subset_of_channels_is_the_loop_over_them(toy, image):
    place = Place(28, 48, np.array([4, 1]))
    got = maps(toy, image, {"b": place}, rows=2)
    np.testing.assert_allclose(got[0], looped(toy, image, "b", place), rtol=1e-4, atol=1e-7)


def test_a_tap_that_does_not_depend_on_the_image_has_no_field(image):
    variable = tf.Variable(np.ones((1, 4, 2), np.float32))
    got = maps(lambda x: {"a": tf.tile(variable, [x.shape[0], 1, 1])}, image, {"a": Place(0, 4, np.arange(2))})
    assert not got.any()


def test_chunks_are_even_and_padding_weighs_nothing():
    chunks = in_chunks({"a": Place(0, 1, np.arange(10)), "b": Place(0, 1, np.arange(10, 20))}, 4)
    assert chunks.channels.shape == (3, 2, 4)
    assert chunks.weight.sum() == 10
    assert sorted(chunks.channels[:, 1][chunks.weight > 0]) == list(range(10, 20))


def test_cells_add_up():
    x = np.arange(24.0).reshape(1, 4, 6)
    np.testing.assert_array_equal(in_cells(x, 2)[0], [[14, 22, 30], [62, 70, 78]])


@pytest.mark.parametrize("rows", [8, 4])
def test_no_tensor_of_a_taps_size_becomes_a_constant(rows):
    """However many chunks there are: with one, every backward pass' first step depends on nothing."""
    subject = toys.vit(size=(64, 64))
    names = ["block00/resid/post", "block01/resid/post"]
    model = subject.expose(names)
    places = {name: Place(30, 65, np.arange(8)) for name in names}
    chunks = in_chunks(places, rows)
    step = tf.function(lambda image: gradient_maps(lambda x: model(x, training=False), image, places, chunks))
    assert max(constants(step, tf.zeros([64, 64, 3]))) < rows * 65 * 16
