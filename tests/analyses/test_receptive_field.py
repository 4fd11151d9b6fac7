import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tests import synthetic, toys, users
from tf_vitcnn.analyses import find
from tf_vitcnn.analyses.base import Run
from tf_vitcnn.analyses.receptive_field import analysis, claims
from tf_vitcnn.analyses.receptive_field.analysis import ReceptiveField
from tf_vitcnn.checkpoints.load import load
from tf_vitcnn.data.images import Preprocessing
from tf_vitcnn.engine.door import run
from tf_vitcnn.errors import BadInput, Unanswerable
from tf_vitcnn.subject import Subject
from tf_vitcnn.verdicts.claim import Untested
from tf_vitcnn.verdicts.evidence import Result
from tf_vitcnn.verdicts.structure import structure_of


def grid_of(table, layer):
    return table[table.layer == layer].pivot(index="row", columns="col", values="gradient").to_numpy()


def looped(subject, tap, index, channels, images, cell):
    """One gradient per image and channel, in NumPy afterwards."""
    model, total = subject.expose([tap]), 0
    for image in images:
        for channel in channels:
            x = tf.constant(image[None])
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = model(x, training=False)[tap][(0, *index, channel)]
            total = total + np.abs(tape.gradient(value, x).numpy()[0]).sum(-1)
    h, w = total.shape
    cells = total.reshape(h // cell, cell, w // cell, cell).sum((1, 3))
    return cells / cells.sum()


TAPS = ["block00/resid/mid", "block00/attn/out", "stem/embed"]


@pytest.fixture(scope="module")
def table():
    return run("receptive_field", toys.shared("vit"), "digits:test", images=3, taps=TAPS, channels="all")


def test_all_channels_equal_an_explicit_loop_of_gradients(table):
    subject = toys.shared("vit")
    images = toys.images_of(subject, "digits:test", 3)
    # the centre of 2 x 3 patches is row 1, column 1: token 4, after the class token 5
    for tap, index in zip(TAPS, [(5,), (5,), (1, 1)], strict=True):
        wanted = looped(subject, tap, index, range(16), images, 4)
        np.testing.assert_allclose(grid_of(table, tap), wanted, rtol=1e-3, atol=1e-6)
    assert (table.gradient_se >= 0).all()


def test_embedding_sees_its_own_patch_only(table):
    cells = grid_of(table, "stem/embed")
    assert cells[2:, 2:4].sum() == pytest.approx(1, abs=1e-6)
    assert np.count_nonzero(cells) == 4


def test_a_strided_map_of_a_resnet_is_the_loop():
    subject = toys.shared("resnet")
    tap = "stage2/unit00/resid/post"
    table = run("receptive_field", subject, "digits:test", images=1, taps=tap, channels=3, cell=2, seed=5)
    place = ReceptiveField(3, 2).place_of(Run((subject,), ((tap,),), seed=5), tap)
    assert place.channels.size == 3
    assert place.positions == 2 * 3
    wanted = looped(subject, tap, (1, 1), place.channels, toys.images_of(subject, "digits:test", 1, 5), 2)
    np.testing.assert_allclose(grid_of(table, tap), wanted, rtol=1e-3, atol=1e-6)
    assert table.gradient_se.isna().all()  # one image


def test_heads_side_by_side_are_channels():
    subject = toys.shared("vit")
    place = ReceptiveField("all").place_of(Run((subject,), (("block00/attn/mixed",),)), "block00/attn/mixed")
    assert place.channels.tolist() == list(range(16))
    assert (place.position, place.positions) == (5, 7)


def linear(size=12):
    """Two convolutions without a nonlinearity: the receptive field is their weights' convolution."""
    x = keras.Input((size, size, 3))
    y = keras.layers.Conv2D(2, 3, padding="same", use_bias=False, name="a")(x)
    y = keras.layers.Conv2D(2, 3, padding="same", use_bias=False, name="b")(y)
    model = keras.Model(x, {"stage1/unit00/branch/out": y})
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.1, 1, w.shape) for w in model.get_weights()])
    return Subject("linear", model, Preprocessing((size, size)), {"patch_size": None})


def test_known_convolutions_give_their_support_and_their_weights():
    subject = linear()
    table = run("receptive_field", subject, "digits:test", images=2, taps="*", channels="all", cell=1)
    first, second = subject.model.get_weights()
    wanted = np.zeros((12, 12))
    for y in range(3):
        for x in range(3):
            wanted[4 + y : 7 + y, 4 + x : 7 + x] += np.einsum("yxab,bc->yx", first, second[y, x])
    cells = grid_of(table, "stage1/unit00/branch/out")
    np.testing.assert_allclose(cells, wanted / wanted.sum(), rtol=1e-4, atol=1e-9)
    assert np.count_nonzero(cells) == 25


def test_a_subset_of_channels_approaches_all_of_them(table):
    subject = toys.shared("vit")
    tap = TAPS[0]
    far = []
    for channels in (1, 12):
        part = run("receptive_field", subject, "digits:test", images=3, taps=tap, channels=channels)
        far.append(np.abs(grid_of(part, tap) - grid_of(table, tap)).sum())
    assert far[1] < far[0]
    assert far[1] < 0.1


def test_seed_and_tap_choose_the_channels():
    subject = toys.shared("vit")

    def chosen(seed, tap="block00/mlp/out"):
        return ReceptiveField(4).place_of(Run((subject,), ((tap,),), seed=seed), tap).channels.tolist()

    assert chosen(0) == chosen(0)
    assert chosen(0) != chosen(1)
    assert chosen(0) != chosen(0, "block01/mlp/out")


@pytest.mark.parametrize("memory", [None, 1e-9])
def test_two_replicas_and_small_chunks_change_nothing(monkeypatch, memory):
    subject = toys.shared("vit")
    one = run("receptive_field", subject, "digits:test", images=3, taps=TAPS[:2], channels=4)
    if memory:
        monkeypatch.setattr(analysis, "ACTIVATION_BYTES", memory)
        again = run("receptive_field", subject, "digits:test", images=3, taps=TAPS[:2], channels=4)
    else:
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        with strategy.scope():
            copy = toys.vit()
        again = run("receptive_field", copy, "digits:test", images=3, taps=TAPS[:2], channels=4, strategy=strategy)
    pd.testing.assert_frame_equal(again, one, rtol=1e-4, atol=1e-6)


def test_default_taps_follow_every_residual_addition():
    assert ReceptiveField().default_taps(toys.shared("vit")) == [
        f"block0{i}/resid/{site}" for i in range(2) for site in ("mid", "post")
    ]
    assert ReceptiveField().default_taps(toys.shared("resnet")) == [f"stage{s}/unit00/resid/post" for s in (1, 2)]


def test_additions_of_a_foreign_network_are_found_and_their_tokens_placed():
    subject = toys.foreign()
    table = run("receptive_field", subject, "digits:test", images=1, channels=2)
    assert list(table.layer.unique()) == [f"block0{i}/resid/{site}" for i in range(2) for site in ("mid", "post")]
    place = ReceptiveField(2).place_of(Run((subject,), (("block00/resid/mid",),)), "block00/resid/mid")
    assert (place.position, place.positions) == (5 + 4, 11)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"cell": 5}, "does not divide"),
        ({"channels": 0}, "positive number or `all`"),
        ({"taps": ["head/pooled"]}, "no positions"),
        ({"taps": ["block00/attn/probs"]}, "no axis of"),
    ],
)
def test_bad_requests_are_refused_in_one_line(more, says):
    with pytest.raises(BadInput, match=says) as error:
        run("receptive_field", toys.shared("vit"), "digits:test", **{"images": 1, **more})
    assert "\n" not in str(error.value)


# --- claims ---


def blob(layer, subject, radius, floor=0.0, cell=4):
    """A Gaussian around the layer's own position, on a uniform floor that holds `floor` of the gradient."""
    size = subject["image_size"]
    (unit,) = (u for u in structure_of(subject).units if layer in (u.branch, u.end))
    middle = [(n // 2 + 0.5) * side / n for n, side in zip(unit.grid, size, strict=True)]
    y, x = (np.arange(s // cell) * cell + cell / 2 for s in size)
    cells = np.exp(-((y[:, None] - middle[0]) ** 2 + (x - middle[1]) ** 2) / (2 * radius**2))
    return (1 - floor) * cells / cells.sum() + floor / cells.size


def result(kind, layers, shape):
    """A table whose map of layer i of n is a blob of `shape(layer, i / (n - 1))`: a radius and a floor."""
    record = synthetic.sidecar("receptive_field", network := synthetic.subject(kind, kind, blocks=BLOCKS[kind]))
    (subject,), parts = record["subjects"], []
    for i, layer in enumerate(layers):
        cells = blob(layer, subject, *shape(layer, i / max(1, len(layers) - 1)))
        at = np.indices(cells.shape).reshape(2, -1)
        parts.append(
            pd.DataFrame(
                {
                    "model": kind,
                    "depth": network.depths[layer],
                    "layer": layer,
                    "row": at[0],
                    "col": at[1],
                    "gradient": cells.ravel(),
                }
            )
        )
    return Result(find("receptive_field").schema.check(pd.concat(parts)), record)


VIT = [f"block{i:02d}/resid/{site}" for i in range(12) for site in ("mid", "post")]
BLOCKS = {"vit": 12, "bit": (3, 4, 6, 3)}
RESNET = [f"stage{i}/unit{j:02d}/resid/post" for i, units in enumerate(BLOCKS["bit"], 1) for j in range(units)]


def test_claims_of_figure_6():
    vit = result("vit", VIT, lambda layer, depth: (8, 0.2 if depth < 0.5 else 0.9))
    resnet = result("bit", RESNET, lambda layer, depth: (4 + 20 * depth, 0))
    assert claims.vit_low_larger(vit, resnet).margin > 0
    assert [check.margin > 0 for check in claims.vit_turns_global_midway(vit, resnet)] == [True, True]
    gradual = result("vit", VIT, lambda layer, depth: (8, 0.2 + 0.7 * depth))
    assert not claims.vit_turns_global_midway(gradual, resnet)[0].margin > 0
    flat = result("vit", VIT, lambda layer, depth: (8, 0.2))
    assert isinstance(claims.vit_turns_global_midway(flat, resnet), Untested)


def test_claim_that_branches_shrink_at_stages_joins_tables_of_one_model():
    def radius(layer, depth):
        return (20 if layer.endswith("unit00/branch/out") else 40), 0

    post = result("bit", RESNET, lambda layer, depth: (20 + 40 * depth, 0))
    branch = result("bit", [t.replace("resid/post", "branch/out") for t in RESNET], radius)
    checks = claims.branch_shrinks_at_stages([post, branch])
    assert len(checks) == 6
    assert all(check.margin > 0 for check in checks)
    with pytest.raises(Unanswerable, match=r"stage2/unit00/branch/out: --taps '\*/branch/out'"):
        claims.branch_shrinks_at_stages([post])
    assert not all(
        c.margin > 0
        for c in claims.branch_shrinks_at_stages([post, result("bit", list(branch.layers.layer), lambda *_: (20, 0))])
    )


def test_claim_that_the_residual_keeps_the_centre():
    layers = [f"block{i:02d}/{site}" for i in range(12) for site in ("attn/out", "resid/mid")]
    paper = result("vit", layers, lambda layer, depth: (8, 0.9 if "attn" in layer else 0.3))
    assert claims.residual_keeps_centre([paper]).value == 1
    with pytest.raises(Unanswerable, match="block06/attn/out"):
        claims.residual_keeps_centre([result("vit", VIT, lambda *_: (8, 0))])


def test_geometry_of_squares_and_radii():
    cells = np.full((7, 7), 1 / 49)
    assert claims.share_inside(cells, (14, 14), 4, (28, 28)) == pytest.approx(1 / 49)
    assert claims.share_inside(cells, (12, 14), 4, (28, 28)) == pytest.approx(1 / 49)  # half of two cells
    assert claims.share_inside(cells, (0, 0), 8, (28, 28)) == pytest.approx(1 / 49)  # a quarter is in the image
    point = np.zeros((7, 7))
    point[3, 5] = 1
    assert claims.radius_of_half(point, (14, 14), (28, 28)) <= 8


def test_chart_has_one_map_per_layer_in_order_of_depth():
    table = result("vit", VIT, lambda *_: (8, 0)).table
    chart = find("receptive_field").chart(table).to_dict()
    assert [label.partition("\n")[0] for label in chart["facet"]["sort"]] == VIT  # the map's range stands below


def test_a_network_without_additions_has_default_taps():
    subject = load(users.several())
    assert ReceptiveField().default_taps(subject) == ["conv"]
    table = run("receptive_field", subject, "digits:test", images=1, channels=2)
    assert list(table.layer.unique()) == ["conv"]
