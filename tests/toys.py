"""Small networks of ours as subjects, for tests of whole runs."""

from functools import cache

from tf_vitcnn.checkpoints.keras_file import foreign as load_foreign
from tf_vitcnn.checkpoints.ours import subject
from tf_vitcnn.data.images import Preprocessing
from tf_vitcnn.models import build
from tf_vitcnn.models.specs import ResNetSpec, ViTSpec


def vit(size=(16, 24), heads=4, depth=2, **more):
    spec = ViTSpec(patch=8, width=16, depth=depth, heads=heads, mlp=32, **more)
    return ours("toy_vit", spec, size)


def resnet(size=(16, 24), units=(1, 1)):
    return ours("toy_resnet", ResNetSpec(units), size)


def ours(name, spec, size, classes=0):
    """Sizes as a subject with seeded weights."""
    model = build(spec, image_size=size, classes=classes)
    return subject(name, f"{name}@random", model, spec, Preprocessing(size), {"random": True, "seed": 0})


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

    images = keras.Input((*size, 3))
    x = keras.layers.Reshape((size[0] * size[1] // 64, 16))(keras.layers.Conv2D(16, 8, 8)(images))
    x = keras.layers.ZeroPadding1D((registers, 0), name="registers")(x)
    for i in range(2):
        y = keras.layers.LayerNormalization()(x)
        x = keras.layers.Add(name=f"mid{i}")([x, keras.layers.MultiHeadAttention(4, 4, name=f"mha{i}")(y, y)])
        y = keras.layers.Dense(16)(keras.layers.Dense(32, activation="gelu")(x))
        x = keras.layers.Add(name=f"post{i}")([x, y])
    model = keras.Model(images, x)
    return load_foreign("foreign", "foreign.keras", model, None, Preprocessing(size), {"random": True})
