"""Two replicas give the table of one for networks that are not ours, made inside the strategy's scope or before it."""

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tests import users
from tf_vitcnn import analyses, load, run


def subclassed():
    return load(users.vit())


def functional():
    return load(users.normalised(), image_size=(32, 24), values="0..255")


CASES = [
    ("attention_distance", subclassed, {"images": 11, "batch": 4}),
    ("cka", subclassed, {"images": 24, "batch": 8, "repeats": 1, "taps": "block*/resid/*"}),
    ("skip_ratio", functional, {"images": 11, "batch": 4}),
    ("receptive_field", functional, {"images": 3, "channels": 2}),
]
QUICK = {("cka", False), ("skip_ratio", True)}
ALL = [
    pytest.param(*case, inside, marks=() if (case[0], inside) in QUICK else pytest.mark.slow)
    for case in CASES
    for inside in (True, False)
]


@pytest.mark.parametrize(("analysis", "make", "settings", "inside"), ALL)
def test_two_replicas_give_the_table_of_one(analysis, make, settings, inside):
    keras.utils.set_random_seed(0)
    one = run(analysis, make(), "digits:test", **settings)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    if inside:
        with strategy.scope():
            subject = make()
    else:
        subject = make()
    two = run(analysis, subject, "digits:test", strategy=strategy, **settings)
    assert two.attrs["sidecar"]["environment"]["replicas"] == 2
    schema = analyses.find(analysis).schema
    pd.testing.assert_frame_equal(two[list(schema.keys)], one[list(schema.keys)])
    for value in (name for name in schema.values if name in one):
        np.testing.assert_allclose(two[value], one[value], rtol=1e-4, atol=1e-5, err_msg=value)
