"""Names of taps, folded into a line for people."""

from tests import synthetic
from tf_vitcnn import taps


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
