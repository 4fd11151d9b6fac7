# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # A keras-hub network
#
# `keras_hub:PRESET` loads a preset by its name, with the preprocessing of its image converter:
#
#     tf-vitcnn analyze skip_ratio --model keras_hub:vit_base_patch16_224_imagenet --data folder:~/images
#
# Without a network the same works with a backbone made here, at a tiny size and with random weights.

# %%
import keras
import keras_hub
import numpy as np

import tf_vitcnn

keras.utils.set_random_seed(0)
backbone = keras_hub.models.ViTBackbone(
    image_shape=(32, 32, 3), patch_size=8, num_layers=3, num_heads=4, hidden_dim=32, mlp_dim=64
)
subject = tf_vitcnn.load(backbone, name="hub_vit", values="-1..1")
len(subject.taps), subject.taps[:6]

# %% [markdown]
# How much passes through the skip connections?

# %%
images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
table = tf_vitcnn.run("skip_ratio", subject, images)
tf_vitcnn.chart(table)
