# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Your own Keras model
#
# Any Keras 3 model opens: functional, Sequential, subclassed. Here is a small transformer of subclassed blocks, as the
# Keras examples write them.

# %%
import keras
import numpy as np

import tf_vitcnn


class Block(keras.layers.Layer):
    """Pre-norm attention and MLP, each with its skip connection."""

    def __init__(self, width: int, heads: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.norm1, self.norm2 = keras.layers.LayerNormalization(), keras.layers.LayerNormalization()
        self.attention = keras.layers.MultiHeadAttention(heads, width // heads)
        self.hidden, self.out = keras.layers.Dense(2 * width, activation="gelu"), keras.layers.Dense(width)

    def call(self, x: object) -> object:
        """Tokens in, tokens out."""
        y = self.norm1(x)
        x = x + self.attention(y, y)
        return x + self.out(self.hidden(self.norm2(x)))


keras.utils.set_random_seed(0)
images = keras.Input((32, 32, 3))
tokens = keras.layers.Reshape((16, 48))(keras.layers.Conv2D(48, 8, 8)(images))
for i in range(3):
    tokens = Block(48, 4, name=f"block_{i}")(tokens)
network = keras.Model(images, keras.layers.GlobalAveragePooling1D()(tokens))

# %% [markdown]
# Opened, every operation inside is a *tap*. The blocks are recognised by their structure, so their taps have the names
# that all models share.

# %%
subject = tf_vitcnn.load(network, name="mine", values="-1..1")
subject.taps[:12]

# %% [markdown]
# From here on it is a network as any other. The data may be arrays.

# %%
photographs = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
table = tf_vitcnn.run("attention_distance", subject, photographs)
table[["layer", "head", "distance_px", "distance_px_se"]].head()

# %%
tf_vitcnn.chart(table)
