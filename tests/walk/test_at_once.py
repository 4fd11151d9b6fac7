"""A model whose own code wants a number of images: the walk gives it just so many, whatever is asked of it."""

import keras
import numpy as np
import pytest
from keras import ops

from tf_vitcnn import load, run, surgery
from tf_vitcnn.errors import BadInput
from tf_vitcnn.walk import plan

L = keras.layers
OPENED_FOR = 8


class Counted(L.Layer):
    """Divides by the number of images: no graph for any number of them."""

    def call(self, x):
        return x / ops.cast(ops.shape(x)[0], x.dtype)


def network(first, name):
    x = images = keras.Input((16, 16, 3))
    x = L.Conv2D(4, 3, strides=2, padding="same")(first(x))
    for _ in range(2):
        y = L.Conv2D(4, 3, padding="same", activation="relu")(x)
        x = L.Add()([x, L.Conv2D(4, 3, padding="same")(y)])
    model = keras.Model(images, L.Dense(3)(L.GlobalAveragePooling2D()(x)), name=name)
    for i, weight in enumerate(model.weights):
        weight.assign(np.random.default_rng(i).normal(size=weight.shape))
    return model


@pytest.fixture(scope="module")
def pair():
    """The network, and the one that it is for that number of images."""
    return load(network(Counted(), "mine")), load(network(L.Rescaling(1 / OPENED_FOR, name="pixels"), "mine"))


@pytest.mark.parametrize(
    ("analysis", "settings"),
    [
        ("skip_ratio", {"images": 12}),  # the last four of the second call are padding
        ("skip_ratio", {"images": 3}),
        ("receptive_field", {"images": 3, "channels": 3}),
        ("cka", {"images": 24, "batch": 12, "repeats": 1, "taps": "stage*"}),
        ("probe", {"images": 40, "test": "digits:test", "shots": 4, "taps": "*/resid/post"}),
    ],
)
def test_tables_are_those_of_that_number(pair, analysis, settings):
    counted, plain = pair
    assert counted.at_once == OPENED_FOR and plain.at_once is None
    data = "digits:train" if analysis == "probe" else "digits:test"
    got, wanted = (run(analysis, one, data, **settings) for one in (counted, plain))
    assert list(got.columns) == list(wanted.columns)
    for column in got.select_dtypes("float"):
        # pivots of other images round otherwise: by up to 1.4e-6 in CKA's errors
        atol = 1.4e-5 if column.endswith("_se") else 1e-6
        np.testing.assert_allclose(got[column], wanted[column], rtol=2e-4, atol=atol, err_msg=column)
    assert "mine is opened for 8 images at a time" in " ".join(got.attrs["sidecar"]["notes"])


def test_plans_count_one_image_of_them(pair):
    """They took all that the model wants at a time for one image: eight times too much."""
    counted, plain = pair
    assert [plan.nbytes(counted.model.output[tap]) for tap in counted.taps] == [
        plan.nbytes(plain.model.output[tap]) for tap in plain.taps
    ]
    assert surgery.live(counted.model, counted.taps) == surgery.live(plain.model, plain.taps)
    for taps in (counted.taps, counted.taps[-3:]):
        cut, uncut = (
            [piece.bytes_per_image for piece in surgery.segments(one.model, taps, 0)] for one in (counted, plain)
        )
        assert max(cut) == max(uncut)


def test_another_micro_batch_is_refused_in_a_line(pair):
    with pytest.raises(BadInput, match="opened for 8 images at a time: pass --batch 8"):
        run("skip_ratio", pair[0], "digits:test", images=12, batch=4)
