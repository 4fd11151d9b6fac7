"""The claims' own statistics against their plain definitions, off the values that any finding would have."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata

from tests import synthetic
from tf_vitcnn.analyses.attention_distance import claims as distance
from tf_vitcnn.analyses.cka import claims as cka
from tf_vitcnn.analyses.cka import training_claims as training
from tf_vitcnn.analyses.head_subsets.claims import ranks
from tf_vitcnn.analyses.receptive_field.claims import steepest
from tf_vitcnn.analyses.skip_ratio import claims as skips
from tf_vitcnn.analyses.tokens import claims as outliers
from tf_vitcnn.errors import MissingLayer
from tf_vitcnn.stats.attention import uniform_distance
from tf_vitcnn.verdicts.evidence import Result
from tf_vitcnn.verdicts.verdict import above


def square(n, seed=0):
    """A symmetric matrix of numbers as CKA has them."""
    values = np.random.default_rng(seed).uniform(size=(n, n))
    return (values + values.T) / 2


def test_every_split_is_within_minus_across():
    cells = square(7)
    found = cka._splits(cells)
    for first in range(1, 7):
        low = np.arange(7) < first
        assert found[first] == pytest.approx(cka._contrast(cells, low))
        pairs = [(i, j) for i in range(7) for j in range(7) if i != j]
        within = np.mean([cells[p] for p in pairs if low[p[0]] == low[p[1]]])
        assert found[first] == pytest.approx(within - np.mean([cells[p] for p in pairs if low[p[0]] != low[p[1]]]))


@pytest.mark.parametrize("first", [2, 3, 8])
def test_the_mixers_best_split_may_be_any_of_two_layers_or_more(first):
    low = np.arange(9) < first
    names = list("abcdefghi")
    table = pd.DataFrame(
        [
            {"layer_x": x, "depth_x": i, "layer_y": y, "depth_y": j, "cka": 0.9 if low[i] == low[j] else 0.1}
            for i, x in enumerate(names)
            for j, y in enumerate(names)
        ]
    )
    check = cka.mixer_two_blocks(Result(table, {"parameters": {}, "subjects": [{"name": "mixer"}]}))
    assert (check.value, check.relation, check.threshold) == (pytest.approx(first / 9), "<", 0.4)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 9])
def test_thirds_are_as_many_lowest_as_highest_layers(n):
    low, high = cka.thirds(n)
    count = max(1, n // 3)
    assert (list(range(n)[low]), list(range(n)[high])) == (list(range(count)), list(range(n - count, n)))


def test_ranks_share_their_mean_where_values_are_equal():
    values = np.array([0.3, 0.1, 0.3, 0.7, 0.1, 0.3])
    np.testing.assert_array_equal(ranks(values), rankdata(values) - 1)


def test_the_steepest_rise_counts_a_span_that_ends_on_a_layer():
    depth = np.arange(7) / 6  # neighbours are a sixth apart
    rises = pd.Series([0.0, 0.1, 0.5, 0.6, 0.7, 0.8, 0.9], depth)
    assert steepest(rises) == pytest.approx(0.4 / 0.9)
    assert steepest(rises, 2 / 6) == pytest.approx(0.5 / 0.9)
    assert np.isnan(steepest(rises.iloc[::-1].set_axis(depth))) and np.isnan(steepest(rises.iloc[:1]))
    # none rises less than nothing: a layer is a span of its own
    assert steepest(pd.Series([0.0, 1.0], [0.0, 1.0])) == 0


def attention(layers, patch=4, size=(9, 14)):
    """Attention distances of some layers, under a record of their own."""
    names = [f"block{i:02d}/attn/probs" for i in range(layers)]
    (record,) = synthetic.sidecar("attention_distance", synthetic.subject("vit", blocks=layers))["subjects"]
    record = {**record, "patch_size": patch, "image_size": list(size)}
    return Result(pd.DataFrame({"layer": names}), {"parameters": {}, "subjects": [record]})


def test_uniform_attention_knows_both_sides_of_an_image():
    assert distance.uniform(attention(2)) == uniform_distance(2, 3, (4.5, 14 / 3))


def test_two_attention_layers_are_the_lowest_and_the_highest():
    names = ["block00/attn/probs", "block01/attn/probs"]
    assert distance.ends(attention(2)) == (names, names)
    with pytest.raises(MissingLayer, match="has 1 attention layers; needs two"):
        distance.ends(attention(1))


def test_the_block_without_skips_needs_layers_on_both_sides():
    names = ["a", "b", "c", "d"]
    rows = [
        {"layer_x": x, "depth_x": i, "layer_y": y, "depth_y": j, "cka": i + 10 * j}
        for i, x in enumerate(names)
        for j, y in enumerate(names)
    ]
    result = Result(pd.DataFrame(rows), {"parameters": {}, "subjects": [{"name": "m"}] * 2})
    assert training._across(result, frozenset("b")) == np.mean([20, 30])
    assert training._across(result, frozenset("c")) == np.mean([30, 31])
    for block in ("a", "d", "x"):
        with pytest.raises(MissingLayer, match="no layers before, in and after"):
            training._across(result, frozenset(block))


def test_a_row_that_lacks_is_named():
    (record,) = synthetic.sidecar("skip_ratio", synthetic.subject("vit", blocks=2))["subjects"]
    names = [name for name in record["taps"] if name.endswith(("attn/out", "mlp/out"))]
    table = pd.DataFrame({"layer": names * 2, "token": ["mean"] * 4 + ["cls"] * 4, "ratio": np.arange(8.0)})
    whole, part = (Result(rows, {"parameters": {}, "subjects": [record]}) for rows in (table, table.drop(7)))
    np.testing.assert_array_equal(skips.mean_ratios(whole, "cls"), np.arange(4.0, 8))
    with pytest.raises(MissingLayer, match=f"no row of cls at {names[-1]}$"):
        skips.mean_ratios(part, "cls")


@pytest.mark.parametrize(("blocks", "late"), [(2, [1]), (6, [4, 5]), (12, [8, 9, 10, 11])])
def test_late_are_the_last_third_of_the_blocks(blocks, late):
    (record,) = synthetic.sidecar("tokens", synthetic.subject("vit", blocks=blocks))["subjects"]
    ends = [f"block{i:02d}/resid/post" for i in range(blocks)]
    table = pd.DataFrame({"layer": ends, "statistic": "outlier_share", "value": np.arange(blocks) ** 2})
    result = Result(table, {"parameters": {}, "subjects": [record]})
    assert outliers._late(result, "outlier_share") == np.mean([i**2 for i in late])


def test_the_share_of_the_data():
    few, all_of_it, random = {"training_images": 3}, {"training_images": 12}, {"random": True}
    shares = [Result(pd.DataFrame(), {"subjects": [one, all_of_it]}) for one in (few, random)]
    assert [training._fraction(result) for result in shares] == [0.25, 0]


def test_an_interval_that_ends_at_zero_decides_nothing():
    ends = {(0.0, 1.0): "undecided", (-1.0, 0.0): "undecided", (1e-9, 1.0): "holds", (-1.0, -1e-9): "fails"}
    assert {span: replace(above(2, 1), low=span[0], high=span[1]).word for span in ends} == ends
