"""Names of taps: which are layers unless told otherwise, and how they are folded into a line for people."""

import dataclasses

import pytest

from tests import synthetic
from tf_vitcnn import models, taps
from tf_vitcnn.models import ViTSpec


def test_blocks_with_the_same_sites_are_told_together():
    ends = [f"block{i:02d}/{site}" for i in range(12) for site in ("attn/out", "mlp/out")]
    assert taps.folded(["stem/embed", *ends, "final/ln/out"]) == (
        "stem/embed, block00..11/{attn/out, mlp/out}, final/ln/out"
    )
    assert taps.folded(["block03/attn/out"]) == "block03/attn/out"
    assert taps.folded(["conv2d", "again/relu"]) == "conv2d, again/relu"
    units = [f"stage{s}/unit{u:02d}/resid/post" for s in (1, 2) for u in range(2)]
    assert taps.folded(units) == "stage1/unit00..01/resid/post, stage2/unit00..01/resid/post"


def test_all_taps_of_a_network_fit_a_few_lines():
    text = taps.folded(synthetic.vit().taps)
    assert len(text) < 200
    assert "block00..05/{ln1/out, attn/q, " in text and "in all}" in text


@pytest.mark.parametrize("more", [{"layer_scale": True}, {"registers": 4, "layer_scale": True}])
def test_a_vit_with_layer_scale_has_the_layers_of_the_paper_s(more):
    plain = ViTSpec(8, 8, 12, 2, 8)
    with_scale, without = (
        list(models.build(spec, image_size=16, classes=3, seed=None).output)
        for spec in (dataclasses.replace(plain, **more), plain)
    )
    assert len(with_scale) == len(without) + 24
    assert taps.default(with_scale) == taps.default(without)
    assert len(taps.default(without)) == 147
    assert taps.select(with_scale, ["block03/ls*/out"]) == ["block03/ls1/out", "block03/ls2/out"]


def test_the_head_is_no_layer_by_default():
    names = ["stem/conv", "stage1/unit00/resid/post", "head/pooled", "head/logits", "head/probs"]
    assert taps.default(names) == names[:2]
    assert taps.default([*names[:-1], "fc"]) == names[:2]  # as records call it that are older than `head/probs`
    assert taps.parse("head/probs") and taps.in_depth_order(reversed(names)) == names
