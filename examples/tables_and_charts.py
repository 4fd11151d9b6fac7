# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Tables in pandas, charts in a report
#
# Tables are tidy CSV files with a Schema. Nothing here imports TensorFlow.

# %%
from pathlib import Path

import tf_vitcnn

here = next(p for p in (Path.cwd(), *Path.cwd().parents) if (p / "saved_results").is_dir())
table = tf_vitcnn.read_table(here / "saved_results/tiny_imagenet/cka/vit--bit.csv")
best = table.loc[table.groupby("layer_y").cka.idxmax(), ["layer_y", "layer_x", "cka"]]
best.head()

# %% [markdown]
# What made it stands beside it.

# %%
table.attrs["sidecar"]["parameters"]

# %% [markdown]
# Charts are Altair's: change them, save them, put them into a page.

# %%
chart = tf_vitcnn.chart(table)
chart.properties(title="Only the lowest layers of the two resemble each other")

# %% [markdown]
# A question that the paper did not ask, with its error over images (NaN for tables made before there were any).

# %%
tf_vitcnn.interval(table, lambda t: t.groupby("depth_y").cka.max().mean())
