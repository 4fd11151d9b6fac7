"""Small networks of ours as subjects, for tests of whole runs."""

from functools import cache

from tf_vitcnn.data.images import Preprocessing
from tf_vitcnn.models import build
from tf_vitcnn.models.specs import ResNetSpec, ViTSpec
from tf_vitcnn.subject import Subject


def vit(size=(16, 24), heads=4, depth=2, **more):
    spec = ViTSpec(patch=8, width=16, depth=depth, heads=heads, mlp=32, **more)
    provenance = {"family": "vit", "patch_size": 8, "random": True, "pool": spec.pool, "no_skip": []}
    return Subject("toy_vit", build(spec, image_size=size, classes=0), Preprocessing(size), provenance)


def resnet(size=(16, 24), units=(1, 1)):
    provenance = {"family": "bit", "patch_size": None, "random": True, "pool": "gap", "no_skip": []}
    model = build(ResNetSpec(units), image_size=size, classes=0)
    return Subject("toy_resnet", model, Preprocessing(size), provenance)


@cache
def shared(kind):
    """One of each for the tests that only read."""
    return {"vit": vit, "resnet": resnet}[kind]()


def images_of(subject, source, count, seed=0):
    """The network input of the first `count` images that a run draws."""
    import numpy as np
    import tensorflow as tf

    from tf_vitcnn.data.sources import draw, open_source

    opened = open_source(source)
    drawn = [opened.load(tf.constant(i))[0].numpy() for i in draw(opened, count, seed)]
    return np.asarray(subject.preprocess(np.stack(drawn)))


def foreign(size=(16, 24), registers=5):
    """A transformer that is not ours: Keras' own attention layers, opened, and tokens without a place."""
    import keras

    from tf_vitcnn import surgery

    images = keras.Input((*size, 3))
    x = keras.layers.Reshape((size[0] * size[1] // 64, 16))(keras.layers.Conv2D(16, 8, 8)(images))
    x = keras.layers.ZeroPadding1D((registers, 0), name="registers")(x)
    for i in range(2):
        y = keras.layers.LayerNormalization()(x)
        x = keras.layers.Add(name=f"mid{i}")([x, keras.layers.MultiHeadAttention(4, 4, name=f"mha{i}")(y, y)])
        y = keras.layers.Dense(16)(keras.layers.Dense(32, activation="gelu")(x))
        x = keras.layers.Add(name=f"post{i}")([x, y])
    model = surgery.open_attention(keras.Model(images, x))
    return Subject("foreign", model, Preprocessing(size), {"family": "foreign", "random": True})
