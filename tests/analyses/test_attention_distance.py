import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tests import synthetic, toys, users
from tests.known import known
from tests.stats.test_attention import looped
from tf_vitcnn.analyses import find
from tf_vitcnn.analyses.attention_distance.claims import (
    high_layers_global,
    less_data_less_local,
    low_layers_local_and_global,
)
from tf_vitcnn.analyses.base import drawings_of
from tf_vitcnn.engine.door import run
from tf_vitcnn.errors import BadInput, MissingLayer, Unanswerable
from tf_vitcnn.stats.attention import uniform_distance
from tf_vitcnn.verdicts.claim import judge
from tf_vitcnn.verdicts.evidence import Result


@pytest.fixture(scope="module")
def table():
    return run("attention_distance", toys.shared("vit"), "digits:test", images=23)


def test_equals_the_double_loop_on_the_model_s_attention(table):
    subject = toys.shared("vit")
    taps = [tap for tap in subject.taps if tap.endswith("attn/probs")]
    probs = subject.expose(taps)(toys.images_of(subject, "digits:test", 23))
    for tap in taps:
        distance, kept, off = looped(probs[tap].numpy(), 2, 3, (8, 8), 1)
        rows = table[table.layer == tap].set_index("head")
        np.testing.assert_allclose(rows.distance_px, distance.sum(0) / kept.sum(0), rtol=1e-5)
        np.testing.assert_allclose(rows.cls_mass, off.sum(0) / (23 * 6), rtol=1e-5)
        assert (rows.distance_px_se > 0).all()


def test_entropy_and_offset_equal_numpy_on_the_model_s_attention(table):
    subject = toys.shared("vit")
    tap = table.layer[0]
    probs = subject.expose([tap])(toys.images_of(subject, "digits:test", 23))[tap].numpy().astype(float)
    entropy = -(probs * np.log(probs)).sum(-1).mean((0, 2)) / np.log(probs.shape[-1])
    rows = table[table.layer == tap].set_index("head")
    np.testing.assert_allclose(rows.entropy, entropy, rtol=1e-5)
    total = probs[:, :, 1:, 1:].sum(0)
    for head in rows.index:
        mean = {}
        for q in range(6):
            for k in range(6):
                mean.setdefault((k // 3 - q // 3, k % 3 - q % 3), []).append(total[head, q, k])
        peak = max(mean, key=lambda at: np.mean(mean[at]))
        assert (rows.offset_rows[head], rows.offset_cols[head]) == peak


def test_standard_error_is_the_jackknife_over_twenty_groups(table):
    subject = toys.shared("vit")
    tap = table.layer[0]
    probs = subject.expose([tap])(toys.images_of(subject, "digits:test", 23))[tap].numpy()
    distance, kept, _ = looped(probs, 2, 3, (8, 8), 1)
    group = np.arange(23) % 20
    without = [distance[group != g].sum(0) / kept[group != g].sum(0) for g in range(20)]
    wanted = np.sqrt(19 / 20 * ((without - np.mean(without, 0)) ** 2).sum(0))
    np.testing.assert_allclose(table[table.layer == tap].distance_px_se, wanted, rtol=1e-3)


@pytest.mark.parametrize("batch", [4, 23])
def test_the_micro_batch_does_not_matter(table, batch):
    again = run("attention_distance", toys.shared("vit"), "digits:test", images=23, batch=batch)
    pd.testing.assert_frame_equal(again, table, rtol=1e-5)


def test_two_replicas_are_one(table):
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        subject = toys.vit()
    again = run("attention_distance", subject, "digits:test", images=23, batch=4, strategy=strategy)
    pd.testing.assert_frame_equal(again, table, rtol=1e-5)


def test_a_pooled_vit_has_no_mass_off_the_grid_and_a_distilled_one_has_two_tokens_off_it():
    pooled = run("attention_distance", toys.vit(pool="gap", depth=1), "digits:test", images=2)
    assert (pooled.cls_mass == 0).all()
    distilled = toys.vit(distilled=True, depth=1)
    one = run("attention_distance", distilled, "digits:test", images=2)
    probs = distilled.expose(["block00/attn/probs"])(toys.images_of(distilled, "digits:test", 2))
    off = probs["block00/attn/probs"].numpy()[:, :, 2:, :2].sum(-1).mean((0, 2))
    np.testing.assert_allclose(one.cls_mass, off, rtol=1e-4)


def test_registers_of_an_opened_foreign_network_have_no_place():
    subject = toys.foreign(registers=5)
    table = run("attention_distance", subject, "digits:test", images=2, taps="block00/*/probs")
    probs = subject.expose(["block00/attn/probs"])(toys.images_of(subject, "digits:test", 2))["block00/attn/probs"]
    distance, kept, off = looped(probs.numpy(), 2, 3, (8, 8), 5)
    np.testing.assert_allclose(table.distance_px, distance.sum(0) / kept.sum(0), rtol=1e-5)
    np.testing.assert_allclose(table.cls_mass, off.sum(0) / (2 * 6), rtol=1e-5)


@pytest.mark.parametrize(
    ("subject", "taps", "says"),
    [("resnet", None, "no attention probabilities"), ("vit", ["block00/attn/out"], "no attention probabilities")],
)
def test_what_has_no_attention_is_refused_in_one_line(subject, taps, says):
    with pytest.raises(BadInput, match=says) as error:
        run("attention_distance", toys.shared(subject), "digits:test", images=2, taps=taps)
    assert "\n" not in str(error.value)


def result(distances, **more):
    """Distances [layer, head] as shares of uniform attention's, in a ViT with 7 x 7 patches."""
    subject = synthetic.subject("vit", blocks=len(distances), **more)
    unit = uniform_distance(7, 7, (32, 32))
    rows = [
        {
            "model": "vit",
            "depth": subject.depths[f"block{i:02d}/attn/probs"],
            "layer": f"block{i:02d}/attn/probs",
            "head": h,
            "distance_px": d * unit,
            "cls_mass": 0.1,
            "distance_px_se": 0.5,
            "cls_mass_se": 0.01,
        }
        for i, layer in enumerate(distances)
        for h, d in enumerate(layer)
    ]
    record = synthetic.sidecar("attention_distance", subject)
    return Result(find("attention_distance").schema.check(pd.DataFrame(rows)), record)


MIXED, LOCAL, GLOBAL = [0.1, 0.5, 0.9], [0.1, 0.2, 0.3], [0.8, 0.9, 1.0]


def test_claims_of_figure_3():
    paper = result([MIXED, MIXED, GLOBAL, GLOBAL])
    assert all(check.margin > 0 for check in low_layers_local_and_global(paper))
    assert [round(c.value, 6) for c in low_layers_local_and_global(paper)] == [0.1, 0.1, 0.9, 0.9]
    assert all(check.margin > 0 for check in high_layers_global(paper))
    assert [c.margin > 0 for c in low_layers_local_and_global(result([MIXED, LOCAL, GLOBAL, GLOBAL]))] == [1, 1, 1, 0]
    assert [c.margin > 0 for c in high_layers_global(result([MIXED, MIXED, GLOBAL, MIXED]))] == [True, False]


def test_claims_of_figure_3_need_the_lowest_and_highest_layers_and_the_patch_size():
    paper = result([MIXED, MIXED, GLOBAL, GLOBAL])
    part = Result(paper.table[paper.table.layer != "block00/attn/probs"], paper.sidecar)
    with pytest.raises(MissingLayer, match="block00/attn/probs"):
        low_layers_local_and_global(part)
    paper.subject["patch_size"] = None  # as a foreign network's record
    with pytest.raises(Unanswerable, match="patch size"):
        high_layers_global(paper)


def test_less_data_is_compared_with_more_of_the_same_architecture():
    less = result([GLOBAL, GLOBAL, GLOBAL, GLOBAL], training_images=10)
    more = result([MIXED, MIXED, GLOBAL, GLOBAL], training_images=100)
    (verdict,) = judge([known(less), known(more)], [less_data_less_local])
    assert verdict.word == "holds"
    (verdict,) = judge([more], [less_data_less_local])
    assert verdict.word == "untested"
    random = result([LOCAL, LOCAL, LOCAL, LOCAL], random=True)
    (verdict,) = judge([less, more, random], [less_data_less_local])
    assert verdict.baseline.value == pytest.approx(0.1 * uniform_distance(7, 7, (32, 32)))


def test_chart_shows_two_lowest_and_two_highest_layers():
    analysis = find("attention_distance")
    chart = analysis.chart(result([MIXED] * 6).table).to_dict()
    (rows,) = chart["datasets"].values()
    assert {row["layer"][:7] for row in rows} == {"block00", "block01", "block04", "block05"}
    ((every,),) = drawings_of(analysis)[1].panels([result([MIXED] * 6).table])
    assert len(next(iter(every.chart.to_dict()["datasets"].values()))) == 18


def test_layers_that_attend_within_windows_are_left_out_and_said_to_be():
    table = run("attention_distance", users.swin(), "digits:test", images=4)
    assert list(table.layer.unique()) == ["block02/attn/probs"]  # one window, as large as the grid
    (note,) = (line for line in table.attrs["sidecar"]["notes"] if "left out" in line)
    assert note.startswith("users_swin: 2 of 3 attention layers are left out")
    assert note.endswith("block00/attn/probs, block01/attn/probs")
