# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # A released ViT against a ResNet
#
# Two commands make every table and the page:
#
#     tf-vitcnn demo --model vit_b32 --against bit_r50x1 --data folder:~/images
#
# One question in Python. Here the weights are random (`@random`) and the network input is small, so that it runs in
# seconds; leave both out for the released checkpoints.

# %%
import tf_vitcnn

vit, resnet = "vit_ti16@random", "bit_r50x1@random"
setting = {"images": 24, "batch": 24, "repeats": 1, "image_size": 32}
taps = ["block0[05]/resid/post", "stage[14]/unit00/resid/post"]
across = tf_vitcnn.run("cka", vit, "digits:test", against=resnet, taps=taps, **setting)
across[["layer_x", "layer_y", "cka", "cka_se"]]

# %% [markdown]
# The committed tables hold the study on small networks that were trained: which claims of the paper hold there?

# %%
from pathlib import Path

import pandas as pd

here = next(p for p in (Path.cwd(), *Path.cwd().parents) if (p / "saved_results").is_dir())
claims = pd.read_csv(here / "saved_results/tiny_imagenet/claims.csv")
claims.groupby("verdict").size()
