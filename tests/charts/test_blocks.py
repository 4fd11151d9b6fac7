import itertools
import json

import numpy as np
import pandas as pd
import pytest

from tf_vitcnn.charts import marks
from tf_vitcnn.charts.blocks import blocks, label

MOBILENET = [
    *("Conv1", "bn_Conv1", "Conv1_relu"),
    *(f"block_{i}_{site}" for i in range(1, 4) for site in ("expand", "expand_BN", "depthwise", "project")),
    *("Conv_1", "Conv_1_bn", "out_relu", "predictions"),
]
HUB = [f"encoder/layer_{i}/{site}" for i in range(3) for site in ("attention/query", "norm", "mlp/dense_1", "mlp/out")]
APPLICATIONS = [
    *("conv1_conv", "conv1_bn"),
    *(f"conv{i}_block{j}_{k}_{site}" for i in (2, 3) for j in (1, 2) for k in (1, 2) for site in ("conv", "bn")),
]
CONVNEXT = [
    *(f"tiny_stage_0_block_{i}_{site}" for i in range(2) for site in ("depthwise_conv_1", "norm", "gelu", "scale")),
    *("add_1", "down_norm_0", "down_conv_0"),
    *(f"tiny_stage_1_block_0_{site}" for site in ("depthwise_conv_1", "norm", "gelu", "scale")),
]


def runs(names):
    return [(label(block), len(list(run))) for block, run in itertools.groupby(blocks(names))]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (MOBILENET, [("Conv1", 3), ("block_1", 4), ("block_2", 4), ("block_3", 4), ("Conv_1", 2), ("out_relu", 2)]),
        (HUB, [("layer_0", 4), ("layer_1", 4), ("layer_2", 4)]),
        (
            APPLICATIONS,
            [("conv1", 2), *((f"conv{i}_block{j}", 4) for i in (2, 3) for j in (1, 2))],
        ),
        (CONVNEXT, [("tin…_0_block_0", 4), ("tin…_0_block_1", 4), ("add_1", 3), ("tin…_1_block_0", 4)]),
        (["block00/ln1/out", "one/qkv", "block00/attn/q", "block01/ln1/out", "odd"], [("0", 3), ("1", 2)]),
        (["stem/conv", "stage1/unit00/conv1/out", "stage1/unit01/conv1/out"], [("stem", 1), ("s1", 1), (".1", 1)]),
        (["conv2d_3", "dropout_7", "dense"], [("conv2d_3", 1), ("dropout_7", 1), ("dense", 1)]),
    ],
    ids=["mobilenet", "hub", "applications", "convnext", "ours", "units", "numbered"],
)
def test_blocks_of_names(names, expected):
    assert runs(names) == expected


def test_an_axis_of_foreign_names_has_their_blocks():
    count = len(MOBILENET)
    pairs = list(itertools.product(range(count), repeat=2))
    table = pd.DataFrame(pairs, columns=["depth_x", "depth_y"]).assign(cka=np.linspace(0, 1, count**2))
    for side in "xy":
        table[f"layer_{side}"] = [MOBILENET[i] for i in table[f"depth_{side}"]]
    for side in "xy":
        axis = marks.heatmap(table, "cka").to_dict()["encoding"][side]["axis"]
        assert axis["values"] == [0, 3, 7, 11, 15, 17]
        assert json.loads(axis["labelExpr"].removesuffix("[datum.value]"))["7"] == "block_2"


def test_the_middle_of_a_long_name_is_left_out_over_a_small_map():
    vl_convert = pytest.importorskip("vl_convert")
    long = ["stage_0_unit_1/attention/output_dense", "stage_0_unit_2/attention/output_dense"]
    cells = [(name, r, c, r + c) for name in long for r in range(2) for c in range(2)]
    table = pd.DataFrame(cells, columns=["layer", "row", "col", "gradient"])
    drawn = vl_convert.vegalite_to_svg(marks.small_maps(table, "gradient").to_dict())
    assert ">stage_0_…utput_dense<" in drawn
    assert f">{long[0]}<" not in drawn
