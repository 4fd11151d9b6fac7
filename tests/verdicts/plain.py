"""Claims' statistics of CKA tables by plain numpy, as accounts of committed tables are checked with."""

import re

import numpy as np

import tf_vitcnn


def of_cka(vit, resnet):
    """The three tables of a pair of networks."""
    return f"cka/{vit}.csv", f"cka/{resnet}.csv", f"cka/{vit}--{resnet}.csv"


def square(table):
    """CKA [layers x, layers y] in depth order."""
    return table.pivot_table(index="depth_x", columns="depth_y", values="cka").to_numpy()


def corner(table):
    """Mean of the lowest with the highest third."""
    cells = square(table)
    third = len(cells) // 3
    return cells[:third, -third:].mean()


def contrast(cells, labels):
    """Mean within groups less mean across, the diagonal left out."""
    same, off = labels[:, None] == labels[None], ~np.eye(len(labels), dtype=bool)
    return cells[same & off].mean() - cells[~same].mean()


def stages(table):
    layers = table.drop_duplicates("depth_x").sort_values("depth_x").layer_x
    labels = np.array([int(m[1]) if (m := re.match(r"stage(\d)", layer)) else 0 for layer in layers])
    inside = labels > 0
    return contrast(square(table)[np.ix_(inside, inside)], labels[inside])


def quarters(table):
    cells = square(table)
    return contrast(cells, np.arange(len(cells)) * 4 // len(cells))


def best_depth(table, half):
    """Median relative depth of the ViT layer that matches a layer of one half of the ResNet best."""
    cells = square(table)  # [ViT, ResNet]
    best = cells.argmax(axis=0) / (len(cells) - 1)
    return float(np.median(best[half * (cells.shape[1] // 2) :][: cells.shape[1] // 2]))


def top_less(table):
    """Best match over all ResNet layers: mean of the ViT's last third less that of its first."""
    best = square(table).max(axis=1)
    third = len(best) // 3
    return best[-third:].mean() - best[:third].mean()


def ends(table):
    """CKA of equal layers at the ends of blocks, in depth order."""
    alike = table[(table.layer_x == table.layer_y) & table.layer_x.str.endswith("resid/post")]
    return alike.sort_values("depth_x").cka.to_numpy()


def across(table, block):
    """Mean CKA of the layers before a block with those after it."""
    names = table.drop_duplicates("depth_x").sort_values("depth_x").layer_x.to_list()
    inside = [i for i, name in enumerate(names) if name.startswith(f"{block}/")]
    return square(table)[: inside[0], inside[-1] + 1 :].mean()


def first_group(table):
    """Share of the layers in the first of the two groups that differ most, each group of two layers or more."""
    cells = square(table)
    sizes = range(2, len(cells) - 1)
    apart = [contrast(cells, np.arange(len(cells)) >= size) for size in sizes]
    return sizes[int(np.argmax(apart))] / len(cells)


def best_match(table):
    """Mean over the first network's layers of the best match in the second."""
    return square(table).max(axis=1).mean()


def read_out(table, share, readout):
    """Accuracy of a readout at the end of the block after which this share of all has been computed."""
    rows = table[(table.readout == readout) & table.layer.str.endswith("resid/post")].sort_values("depth")
    return rows.accuracy.iloc[round(len(rows) * share) - 1]


# which of a pair's tables, what of them, whether it changes in steps
NUMBERS = {
    "uniform": ((0, 1), lambda vit, resnet: corner(vit) - corner(resnet), False),
    "uniform, ViT": ((0,), corner, False),
    "uniform, ResNet": ((1,), corner, False),
    "stages": ((1, 0), lambda resnet, vit: stages(resnet) - quarters(vit), False),
    "stages, ResNet": ((1,), stages, False),
    "stages, ViT": ((0,), quarters, False),
    "low half": ((2,), lambda table: best_depth(table, 0), True),
    "top half": ((2,), lambda table: best_depth(table, 1), True),
    "top differs": ((2,), top_less, False),
}


def stated(folder, name, pair):
    """A statistic of a ViT and a ResNet with its interval, in an account's words."""
    tables, statistic, jumps = NUMBERS[name]
    return worded([folder / of_cka(*pair)[i] for i in tables], statistic, jumps)


def worded(tables, statistic, jumps=False):
    """A statistic of tables with its interval."""
    found = tf_vitcnn.interval(tables, statistic, jumps=jumps)
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def in_its_place(path):
    """Share of the tokens that match their own patch best, of each layer, from a table of localization."""
    table = tf_vitcnn.read_table(path)
    table = table[table.token_row >= 0]  # without the class token
    best = table.loc[table.groupby(["layer", "token_row", "token_col"]).cka.idxmax()]
    own = (best.token_row == best.patch_row) & (best.token_col == best.patch_col)
    return [f"{share:.2f}" for share in own.groupby(best.layer).mean()]
