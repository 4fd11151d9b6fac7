"""What the names of our taps say of a network is what its graph says."""

import json

import pytest

from tests import toys
from tf_vitcnn import analyses
from tf_vitcnn.analyses.layout import block_ends, post_residual
from tf_vitcnn.errors import Unanswerable
from tf_vitcnn.models.specs import ConvNeXtSpec, MixerSpec, PostResNetSpec, ResNetSpec, ViTSpec
from tf_vitcnn.opening import layout
from tf_vitcnn.verdicts.structure import structure_of

SPECS = {
    "vit": ViTSpec(16, 16, 3, 2, 32),
    "gap": ViTSpec(16, 16, 2, 2, 32, pool="gap"),
    "scaled": ViTSpec(16, 16, 2, 2, 32, layer_scale=True, registers=2),
    "map": ViTSpec(16, 16, 2, 2, 32, pool="map"),
    "mixer": MixerSpec(16, 16, 2, 8, 32),
    "bit": ResNetSpec((1, 2, 1), 0.5),
    "post": PostResNetSpec((1, 2), (8, 16), (16, 32)),
    "convnext": ConvNeXtSpec((1, 2), (8, 16)),
}


@pytest.fixture(scope="module", params=SPECS)
def subject(request):
    return toys.ours(request.param, SPECS[request.param], (64, 64))


def test_names_and_graph_agree(subject):
    found = structure_of({**subject.provenance, "name": subject.name})
    assert [unit.branch for unit in found.units] == analyses.find("skip_ratio")().default_taps(subject)
    assert found.sums == post_residual(subject)
    assert found.ends == block_ends(subject)
    grids = [layout(subject, unit.end) for unit in found.units]
    assert [unit.grid for unit in found.units] == [(grid.rows, grid.cols) for grid in grids]


def test_units_hold_all_layers_between_their_ends(subject):
    found = structure_of({**subject.provenance, "name": subject.name})
    for unit in found.units:
        assert found.unit_of(unit.end) == found.unit_of(unit.branch) == unit
    assert found.unit_of(found.taps[0]) is None  # the stem is in no unit
    assert found.unit_of(found.taps[-1]) is None


def test_attention_is_that_of_blocks():
    attention = {
        kind: structure_of({**toys.ours(kind, SPECS[kind], (64, 64)).provenance, "name": kind}).attention
        for kind in ("map", "vit", "bit")
    }
    assert attention["map"] == ("block00/attn/probs", "block01/attn/probs")
    assert len(attention["vit"]) == 3 and attention["bit"] == ()


def test_stages_are_runs_of_equal_grids():
    found = structure_of(toys.ours("bit", SPECS["bit"], (64, 64)).provenance)
    assert [(unit.stage, unit.grid, unit.block) for unit in found.units][:3] == [
        *[(1, (16, 16), found.units[0].block), (2, (8, 8), found.units[0].block + 1)],
        (2, (8, 8), found.units[0].block + 2),
    ]


RECORD = {
    "units": [
        {"branch": "c1", "end": "a1", "block": 0, "stage": 1, "grid": [8, 8], "attends": False, "first": "x1"},
        {"branch": "c2", "end": "a2", "block": 1, "stage": 2, "grid": None, "attends": False, "first": "x2"},
    ],
    "attention": ["p1", "head/attn/probs"],
    "extra": ["cls", "reg0"],
    "grid": [8, 8],
}


def test_a_record_comes_before_names():
    names = ["stem", "x1", "c1", "a1", "x2", "c2", "a2", "out"]
    found = structure_of({"name": "net", "taps": names, "structure": json.loads(json.dumps(RECORD))})
    assert found.ends == ["a1", "a2"]
    assert found.units[0].grid == (8, 8) and found.units[1].grid == (0, 0)
    assert found.attention == ("p1",) and found.extra == ("cls", "reg0")
    assert [found.unit_of(name) and found.unit_of(name).stage for name in names] == [None, 1, 1, 1, 2, 2, 2, None]


def test_a_network_without_record_or_names_cannot_be_asked():
    with pytest.raises(Unanswerable, match="structure of net is not recorded"):
        structure_of({"name": "net", "taps": ["dense", "dense_1"]})
