import numpy as np
import pandas as pd
import pytest

from tests import synthetic, toys, users
from tests.stats.test_attention import looped
from tests.stats.test_hsic import reference
from tf_vitcnn.analyses import find
from tf_vitcnn.analyses.head_subsets.analysis import subsets
from tf_vitcnn.analyses.head_subsets.claims import local_heads_like_resnet
from tf_vitcnn.checkpoints.load import load
from tf_vitcnn.engine.door import run
from tf_vitcnn.errors import BadInput
from tf_vitcnn.verdicts.claim import Untested
from tf_vitcnn.verdicts.evidence import Result

COLUMNS = ["stem/pool", "stage1/unit00/resid/post", "stage2/unit00/resid/post"]


@pytest.fixture(scope="module")
def table():
    return run("head_subsets", toys.shared("vit"), "digits:test", against=toys.shared("resnet"), images=40, batch=20)


def test_equals_cka_of_the_heads_side_by_side(table):
    subject, other = toys.shared("vit"), toys.shared("resnet")
    mixed = subject.expose(["block00/attn/mixed"])(toys.images_of(subject, "digits:test", 40))["block00/attn/mixed"]
    probs = subject.expose(["block00/attn/probs"])(toys.images_of(subject, "digits:test", 40))["block00/attn/probs"]
    distance, kept, _ = looped(probs.numpy(), 2, 3, (8, 8), 1)
    distance = distance.sum(0) / kept.sum(0)
    layers = other.expose(COLUMNS)(toys.images_of(other, "digits:test", 40))
    order = list(np.argsort(distance))
    assert list(dict.fromkeys(table.layer_y)) == COLUMNS
    assert len(table) == 3 * 10
    for row in table.itertuples():
        heads = [int(h) for h in row.heads.split("-")]
        start = order.index(heads[0])
        assert heads == order[start : start + row.size]
        assert row.distance_px == pytest.approx(distance[heads].mean(), rel=1e-5)
        both = [mixed.numpy()[:, :, heads], layers[row.layer_y].numpy()]
        wanted = reference([[x[i : i + 20] for x in both] for i in (0, 20)])
        assert row.cka == pytest.approx(wanted[0, 1], abs=1e-5)
    assert table.cka_se.notna().all()


def test_taps_choose_the_layers_of_the_other_network():
    again = run(
        "head_subsets",
        toys.shared("vit"),
        "digits:test",
        against=toys.shared("resnet"),
        images=8,
        batch=8,
        taps=["stage2/*/branch/out"],
    )
    assert set(again.layer_y) == {"stage2/unit00/branch/out"}
    assert (again.cka_se > 0).all()  # a single minibatch says it too


@pytest.mark.parametrize(
    ("pair", "more", "says"),
    [
        (("resnet", "vit"), {}, "has no attention heads"),
        (("vit", "resnet"), {"taps": "block00/*"}, "chooses no layer of toy_resnet"),
        (("vit", "resnet"), {"batch": 3}, "at least 4"),
        (("vit", "resnet"), {"images": 1, "batch": None}, "minibatches of 1: head_subsets needs at least 4"),
    ],
)
def test_bad_requests_are_refused_in_one_line(pair, more, says):
    model, other = (toys.shared(kind) for kind in pair)
    with pytest.raises(BadInput, match=says) as error:
        run("head_subsets", model, "digits:test", against=other, **{"images": 8, "batch": 8, **more})
    assert "\n" not in str(error.value)


def test_subsets_are_all_contiguous_runs():
    assert subsets(3) == [(0, 1), (1, 2), (2, 3), (0, 2), (1, 3), (0, 3)]


def result(heads, falling):
    rows = [
        {
            "model": "vit",
            "layer": "block00/attn/mixed",
            "heads": "-".join(f"{h:02d}" for h in range(a, b)),
            "size": b - a,
            "against": "bit",
            "depth_y": depth,
            "layer_y": layer,
            "distance_px": (a + b) / 2,
            "cka": (-(a + b) if falling or "stage2" in layer else a + b) / 100,
        }
        for a, b in subsets(heads)
        for depth, layer in enumerate(COLUMNS)
    ]
    record = synthetic.sidecar("head_subsets", synthetic.subject("vit"), synthetic.subject("bit", "bit"))
    return Result(find("head_subsets").schema.check(pd.DataFrame(rows)), record)


def test_claim_of_figure_5():
    assert local_heads_like_resnet(result(12, falling=True)).value == pytest.approx(-1)
    assert not local_heads_like_resnet(result(12, falling=False)).margin > 0
    assert isinstance(local_heads_like_resnet(result(5, falling=True)), Untested)


def test_chart_has_a_panel_per_layer():
    chart = find("head_subsets").chart(result(4, falling=True).table).to_dict()
    assert chart["facet"]["sort"] == COLUMNS


def test_the_heads_of_another_block_and_taps_of_either_model():
    table = run("head_subsets", toys.shared("vit"), "digits:test", toys.shared("resnet"), images=8, batch=8, block=1)
    assert list(table.layer.unique()) == ["block01/attn/mixed"]
    assert list(table.layer_y.unique()) == ["stem/pool", "stage1/unit00/resid/post", "stage2/unit00/resid/post"]
    some = run(
        "head_subsets",
        toys.shared("vit"),
        "digits:test",
        toys.shared("resnet"),
        images=8,
        batch=8,
        against_taps="stage2/*/post",
    )
    assert list(some.layer_y.unique()) == ["stage2/unit00/resid/post"]
    assert some.attrs["sidecar"]["parameters"]["against_taps"] == ["stage2/*/post"]
    with pytest.raises(BadInput, match="--block 2: toy_vit has attention in blocks 0 to 1"):
        run("head_subsets", toys.shared("vit"), "digits:test", toys.shared("resnet"), images=8, batch=8, block=2)
    with pytest.raises(BadInput, match="no tap matches 'stage9"):
        run("cka", toys.shared("vit"), "digits:test", toys.shared("resnet"), images=8, batch=8, against_taps="stage9*")
    with pytest.raises(BadInput, match="attend within windows"):
        run("head_subsets", load(users.swin()), "digits:test", toys.shared("resnet"), images=8, batch=8)
