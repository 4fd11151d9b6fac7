"""Networks as users write them: subclassed, nested, in mixed precision, with several outputs, with shared layers."""

import keras
from keras import ops

L = keras.layers


class PatchEncoder(L.Layer):
    """Patches by reshaping, a class token and learnt positions, after the pattern of Keras' examples."""

    def __init__(self, patch, width, **kwargs):
        super().__init__(**kwargs)
        self.patch, self.width = patch, width
        self.projection = L.Dense(width)

    def build(self, shape):
        self.count = (shape[1] // self.patch) * (shape[2] // self.patch)
        self.cls = self.add_weight(shape=(1, 1, self.width), initializer="random_normal", name="cls")
        self.position_embedding = L.Embedding(self.count + 1, self.width)
        self.position_embedding.build((None,))
        self.projection.build((None, self.count, 3 * self.patch**2))

    def call(self, images):
        batch, height, width, channels = ops.shape(images)
        rows, cols = height // self.patch, width // self.patch
        x = ops.reshape(images, (batch, rows, self.patch, cols, self.patch, channels))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        x = self.projection(ops.reshape(x, (batch, rows * cols, self.patch * self.patch * channels)))
        x = ops.concatenate([ops.tile(self.cls, (batch, 1, 1)), x], axis=1)
        return x + self.position_embedding(ops.expand_dims(ops.arange(self.count + 1), 0))


class HandMade(L.Layer):
    """Attention by hand: one projection, einsum, a softmax."""

    def __init__(self, heads, width, **kwargs):
        super().__init__(**kwargs)
        self.heads, self.width = heads, width
        self.qkv, self.out = L.Dense(3 * width), L.Dense(width)

    def call(self, x):
        batch, tokens, _ = ops.shape(x)
        qkv = ops.reshape(self.qkv(x), (batch, tokens, 3, self.heads, self.width // self.heads))
        q, k, v = ops.unstack(qkv, axis=2)
        q = q * (self.width // self.heads) ** -0.5
        probs = ops.softmax(ops.einsum("bqne,bkne->bnqk", q, k), axis=-1)
        return self.out(ops.reshape(ops.einsum("bnqk,bkne->bqne", probs, v), (batch, tokens, self.width)))


class Block(L.Layer):
    """Pre-norm, with drop path and a scale of each branch."""

    def __init__(self, heads, width, hidden, **kwargs):
        super().__init__(**kwargs)
        self.norm1, self.norm2 = L.LayerNormalization(epsilon=1e-6), L.LayerNormalization(epsilon=1e-6)
        self.attention = HandMade(heads, width)
        self.mlp = keras.Sequential([L.Dense(hidden, activation="gelu"), L.Dropout(0.1), L.Dense(width)])
        self.scale = L.EinsumDense("btc,c->btc", (None, width))

    def call(self, x, training=None):
        x = x + self.attention(self.norm1(x))
        return x + self.scale(self.mlp(self.norm2(x), training=training))


class ViT(keras.Model):
    """A subclassed vision transformer that was never a graph."""

    def __init__(self, patch=8, width=16, heads=2, depth=2, classes=5, **kwargs):
        super().__init__(**kwargs)
        self.embed = PatchEncoder(patch, width)
        self.blocks = [Block(heads, width, 2 * width) for _ in range(depth)]
        self.norm = L.LayerNormalization()
        self.head = L.Dense(classes)

    def call(self, images, training=None):
        x = self.embed(images)
        for block in self.blocks:
            x = block(x, training=training)
        return self.head(self.norm(x)[:, 0])


def vit(size=(16, 24), **kwargs):
    model = ViT(name="users_vit", **kwargs)
    model(ops.zeros((1, *size, 3)))
    return seeded(model)


def windows(x, side):
    _, h, w, c = x.shape
    x = ops.reshape(x, (-1, h // side, side, w // side, side, c))
    return ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, side * side, c))


class WindowBlock(L.Layer):
    """Attention in windows that are shifted in every other block, with a bias for each relative place."""

    def __init__(self, side, heads, width, shift, **kwargs):
        super().__init__(**kwargs)
        self.side, self.heads, self.width, self.shift = side, heads, width, shift
        self.norm1, self.norm2 = L.LayerNormalization(), L.LayerNormalization()
        self.qkv, self.out = L.Dense(3 * width), L.Dense(width)
        self.up, self.down = L.Dense(2 * width, activation="gelu"), L.Dense(width)

    def build(self, shape):
        self.bias = self.add_weight(shape=(self.heads, self.side**2, self.side**2), name="bias")
        super().build(shape)

    def call(self, x):
        batch, h, w, c = ops.shape(x)
        y = ops.roll(self.norm1(x), (-self.shift, -self.shift), (1, 2)) if self.shift else self.norm1(x)
        y = windows(y, self.side)
        qkv = ops.reshape(self.qkv(y), (-1, self.side**2, 3, self.heads, c // self.heads))
        q, k, v = ops.unstack(ops.transpose(qkv, (2, 0, 3, 1, 4)), axis=0)
        scores = ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) / (c // self.heads) ** 0.5 + self.bias
        y = ops.matmul(ops.softmax(scores), v)
        y = self.out(ops.reshape(ops.transpose(y, (0, 2, 1, 3)), (-1, self.side**2, c)))
        y = ops.reshape(y, (batch, h // self.side, w // self.side, self.side, self.side, c))
        y = ops.reshape(ops.transpose(y, (0, 1, 3, 2, 4, 5)), (batch, h, w, c))
        x = x + (ops.roll(y, (self.shift, self.shift), (1, 2)) if self.shift else y)
        return x + self.down(self.up(self.norm2(x)))


def swin():
    """Two stages of windows: a functional model around layers of one's own."""
    x = images = keras.Input((32, 32, 3))
    x = L.LayerNormalization()(L.Conv2D(8, 4, 4, name="embed")(x))
    x = WindowBlock(4, 2, 8, 2, name="two")(WindowBlock(4, 2, 8, 0, name="one")(x))
    x = L.Conv2D(16, 2, 2, name="merge")(x)
    x = WindowBlock(4, 4, 16, 0, name="three")(x)
    return seeded(keras.Model(images, L.Dense(5)(L.GlobalAveragePooling2D()(x)), name="users_swin"))


def normalised():
    """A Normalization inside, nested models, a layer that Keras cannot look into."""
    x = images = keras.Input((None, None, 3))
    x = L.Normalization(mean=[120.0] * 3, variance=[4000.0] * 3)(x)
    stem = keras.Sequential([L.Conv2D(6, 3, strides=2, padding="same"), L.BatchNormalization(), L.ReLU()], name="stem")
    x = stem(x)
    for i in range(2):
        y = L.Conv2D(6, 3, padding="same", name=f"a{i}")(x)
        x = L.Add(name=f"sum{i}")([x, L.Conv2D(6, 3, padding="same", name=f"b{i}")(L.ReLU()(y))])
    return seeded(keras.Model(images, L.GlobalAveragePooling2D()(x), name="normalised"))


def several():
    """Two heads, as a dict of outputs."""
    x = images = keras.Input((16, 16, 3))
    x = L.Conv2D(8, 3, strides=2, activation="relu", name="conv")(x)
    pooled = L.GlobalMaxPooling2D(name="pool")(x)
    outputs = {"label": L.Dense(4, activation="softmax", name="label")(pooled), "box": L.Dense(4, name="box")(pooled)}
    return seeded(keras.Model(images, outputs, name="several"))


class Shared(keras.Model):
    """The same layers again and again: an encoder tied over depth."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.embed, self.block, self.head = L.Conv2D(8, 4, 4), Block(2, 8, 16), L.Dense(3)

    def call(self, images):
        x = ops.reshape(self.embed(images), (-1, 16, 8))
        for _ in range(3):
            x = self.block(x)
        return self.head(ops.mean(x, axis=1))


def shared():
    model = Shared(name="shared")
    model(ops.zeros((1, 16, 16, 3)))
    return seeded(model)


def mixed():
    """In mixed precision, weights of its own included."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        return vit()
    finally:
        keras.config.set_dtype_policy(before)


@keras.saving.register_keras_serializable("users")
class Asks(L.Layer):
    """Code of TensorFlow's, which symbolic tensors of Keras do not run."""

    def call(self, x):
        import tensorflow as tf

        return tf.nn.relu(x) + 1.0

    def compute_output_shape(self, shape):
        return shape


def opaque():
    x = images = keras.Input((16, 16, 3))
    x = L.Conv2D(4, 3, name="conv")(x)
    x = Asks(name="asks")(x)
    return seeded(keras.Model(images, L.GlobalAveragePooling2D()(x), name="opaque"))


def seeded(model):
    """Weights that are not what initializers give: no zeros, other numbers in each."""
    import numpy as np

    for i, weight in enumerate(model.weights):
        if "float" in weight.dtype and not weight.path.endswith(("mean", "variance")):
            weight.assign(0.3 * np.random.default_rng(i).normal(size=weight.shape))
    return model
