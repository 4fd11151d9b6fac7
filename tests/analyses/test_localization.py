import keras
import numpy as np
import pandas as pd
import pytest

from tests import synthetic
from tf_vitcnn import analyses
from tf_vitcnn.analyses.base import Run
from tf_vitcnn.analyses.localization.analysis import Localization, _cutter
from tf_vitcnn.analyses.localization.claims import own_to_best
from tf_vitcnn.data.images import Preprocessing
from tf_vitcnn.engine.door import run
from tf_vitcnn.errors import BadInput
from tf_vitcnn.subject import Subject
from tf_vitcnn.verdicts.claim import Untested
from tf_vitcnn.verdicts.evidence import Result


def passes_patches(size=16, patch=4):
    """A network whose tokens are the input's patches, with a class token that never changes before them."""
    images = keras.Input((size, size, 3))
    side = size // patch
    cells = keras.layers.Reshape((side, patch, side, patch, 3))(images)
    cells = keras.layers.Permute((1, 3, 2, 4, 5))(cells)
    grid = keras.layers.Reshape((side, side, patch * patch * 3), name="block00.resid.mid")(cells)
    tokens = keras.layers.Reshape((side * side, patch * patch * 3))(grid)
    tokens = keras.layers.ZeroPadding1D((1, 0), name="block00.resid.post")(tokens)
    model = keras.Model(images, {"block00/resid/mid": grid, "block00/resid/post": tokens})
    return Subject("passes", model, Preprocessing((size, size)), {"patch_size": patch})


@pytest.fixture(scope="module")
def table():
    return run("localization", passes_patches(), "noise:16", images=384, batch=128, taps="*/resid/*")


def test_passing_patches_on_gives_the_identity(table):
    spatial = table[table.token_row >= 0]
    own = (spatial.token_row == spatial.patch_row) & (spatial.token_col == spatial.patch_col)
    assert len(spatial) == 2 * 16 * 16
    np.testing.assert_allclose(spatial[own].cka, 1, atol=1e-5)
    # unbiased: other patches scatter around zero
    others = spatial[~own].cka
    assert abs(others.mean()) < 4 * others.std() / np.sqrt(len(others))
    assert others.abs().max() < 0.1
    assert abs(others.std() / spatial[~own].cka_se.mean() - 1) < 0.5


def test_a_constant_class_token_has_no_cka(table):
    cls = table[table.token_row == -1]
    assert len(cls) == 16
    assert (cls.token_col == -1).all()
    assert cls.cka.isna().all()


def test_equals_a_double_loop_in_numpy():
    subject = passes_patches()
    rng = np.random.default_rng(0)
    images = rng.normal(size=(12, 16, 16, 3)).astype("float32")
    rows, (columns,) = Localization().views(Run((subject,), (("block00/resid/post",),)))
    tokens = np.asarray(rows[0].split(subject.model(images)["block00/resid/post"]))
    patches = np.asarray(columns.split(images))
    np.testing.assert_array_equal(tokens[1:], patches)
    assert rows[0].keys[:2] == ("cls", "token000")
    for r in range(4):
        for c in range(4):
            expected = images[:, 4 * r : 4 * r + 4, 4 * c : 4 * c + 4].reshape(12, -1)
            np.testing.assert_array_equal(patches[4 * r + c], expected)


def test_patches_of_images_that_cells_do_not_divide():
    images = np.random.default_rng(0).normal(size=(2, 10, 10, 3)).astype("float32")
    # a ViT drops what does not fill a patch; a ResNet pads
    np.testing.assert_array_equal(_cutter(2, 2, 4)(images)[3], images[:, 4:8, 4:8].reshape(2, -1))
    covering = np.asarray(_cutter(3, 3, None)(images))
    assert covering.shape == (9, 2, 4 * 4 * 3)
    np.testing.assert_array_equal(covering[8].reshape(2, 4, 4, 3)[:, :2, :2], images[:, 8:, 8:])
    assert covering.sum() == pytest.approx(images.sum(), rel=1e-4)


def test_taps_of_several_grids():
    images = keras.Input((16, 16, 3))
    fine = keras.layers.AveragePooling2D(4, name="stage1.unit00.resid.post")(images)
    coarse = keras.layers.AveragePooling2D(2, name="stage2.unit00.resid.post")(fine)
    model = keras.Model(images, {"stage1/unit00/resid/post": fine, "stage2/unit00/resid/post": coarse})
    found = run("localization", Subject("two", model, Preprocessing((16, 16)), {}), "noise:16", images=64, batch=64)
    assert found.groupby("layer").size().to_dict() == {
        "stage1/unit00/resid/post": 16 * 16,
        "stage2/unit00/resid/post": 4 * 4,
    }
    own = (found.token_row == found.patch_row) & (found.token_col == found.patch_col)
    assert found[own].cka.min() > found[~own].cka.abs().max()
    assert (found.cka_se > 0).all()  # a single minibatch says it too


def test_a_vector_has_no_positions():
    images = keras.Input((8, 8, 3))
    pooled = keras.layers.GlobalAveragePooling2D(name="head.pooled")(images)
    subject = Subject("flat", keras.Model(images, {"head/pooled": pooled}), Preprocessing((8, 8)), {})
    with pytest.raises(BadInput, match="no positions"):
        run("localization", subject, "noise:8", images=16, batch=16, taps="head/pooled")


LAST = {"vit": "block05/resid/post", "gap": "block05/resid/post", "bit": "stage4/unit01/resid/post"}


def grid_table(best, side=4, name="m"):
    """A table whose every token matches the patch best(row, col) best."""
    rows = [
        (name, 5, LAST["vit"], r, c, pr, pc, 0.9 if (pr, pc) == best(r, c) else 0.1)
        for r in range(side)
        for c in range(side)
        for pr in range(side)
        for pc in range(side)
    ]
    table = pd.DataFrame(rows, columns=[*Localization.schema.keys, "cka"])
    return Localization.schema.check(table)


def result(table, kind="vit"):
    table = table.assign(layer=LAST[kind])
    return Result(table, synthetic.sidecar("localization", synthetic.subject("m", kind)))


def test_claims():
    near, centre = grid_table(lambda r, c: (r, c)), grid_table(lambda r, c: (1, 1))
    assert own_to_best(result(near)) == 0
    expected = np.mean([np.hypot(r - 1, c - 1) for r in range(4) for c in range(4)]) / 4
    assert own_to_best(result(centre)) == pytest.approx(expected)
    localized, edges, gap = Localization.claims
    assert localized(result(near), result(centre, "bit")).margin > 0
    assert not localized(result(centre), result(near, "bit")).margin > 0
    assert gap(result(centre, "gap"), result(near)).margin > 0
    assert not edges(result(centre)).margin > 0
    assert (
        edges(result(grid_table(lambda r, c: (r, 3 - c)))).margin > 0
    )  # an edge token's mirror image is an edge patch


def test_claims_say_nothing_of_a_grid_with_one_position():
    near, single = grid_table(lambda r, c: (r, c)), grid_table(lambda r, c: (r, c), side=1)
    localized, edges, gap = Localization.claims
    for outcome in (localized(result(near), result(single, "bit")), gap(result(single, "gap"), result(near))):
        assert outcome == Untested("the last grid of m has a single position")
    assert edges(result(single)) == Untested("the grid has no interior patches")


def test_chart(table):
    drawn = analyses.chart(table, "localization").to_dict()
    assert "facet" in drawn
