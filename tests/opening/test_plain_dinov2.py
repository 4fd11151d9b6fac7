"""One set of weights under transformers' names and in nothing but Keras' own layers: the same tables."""

import pytest

import tf_vitcnn
from benchmarks import dinov2_plain
from tests.golden import torch_seeded

IMAGES = {"data": "digits:test", "images": 40}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dinov2")
    case = torch_seeded.case("hf_dinov2")
    released = tf_vitcnn.load(f"hf@{torch_seeded.folder(folder / 'release', case)}", name="dinov2")
    size = released.model.inputs[0].shape[1]
    arrays = {name.removeprefix("dinov2."): array for name, array in torch_seeded.weights(case["shapes"]).items()}
    path = folder / "plain.keras"
    dinov2_plain.network(arrays, dinov2_plain.positions_of(released), case["config"], size).save(path)
    return released, tf_vitcnn.load(str(path), name="dinov2", preprocessing=released.preprocessing)


@pytest.mark.parametrize("analysis", dinov2_plain.ANALYSES)
def test_opened_from_plain_layers_it_gives_the_tables_of_the_release(both, analysis):
    tables = [tf_vitcnn.run(analysis, subject, **IMAGES, **dinov2_plain.ANALYSES[analysis]) for subject in both]
    assert dinov2_plain.differences(*tables) < 1e-5
    names = [c for c in ("layer", "layer_x", "layer_y") if c in tables[0]]
    # a convolution that nothing marks as an embedding keeps its layer's name
    assert tables[0][names].equals(tables[1][names].replace("patches", "stem/embed"))
