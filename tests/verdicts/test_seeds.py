"""Several trainings of one recipe: each has its verdict, and one line has them all."""

import pytest

from tests import synthetic
from tests.verdicts.test_claim import larger, result
from tf_vitcnn.verdicts.claim import judge
from tf_vitcnn.verdicts.seeds import Summary, over_seeds
from tf_vitcnn.verdicts.verdict import to_csv

RECIPE = {"epochs": 4, "rate": 0.001, "batch": 64}


def trained(seed, value, recipe=RECIPE, kind="vit"):
    made = result("skip_ratio", synthetic.subject(f"{kind}_s{seed}", kind), value=value)
    made.subject.update(recipe={**recipe, "seed": seed}, seed=seed, data_fingerprint="d", fraction=1.0)
    return made


def lines(*tables):
    return over_seeds(judge(tables, [larger]))


def test_trainings_of_one_recipe_are_summarised():
    resnet = result("skip_ratio", synthetic.bit(), value=2)
    *each, summary = lines(trained(0, 3), trained(1, 2.5), trained(2, 1), resnet)
    assert [v.word for v in each] == ["holds", "holds", "fails"]
    assert isinstance(summary, Summary) and summary.word == "undecided"
    assert summary.margins == pytest.approx([1, 0.5, -1])
    assert summary.text == "2 of 3 hold; margin 0.167, spread 1 over trainings"
    row = to_csv([summary.row()]).splitlines()[1]
    assert row.startswith("larger,Fig. 1,undecided,2.16667,,,vit_s0 bit_r50x1 vit_s1 vit_s2,")
    assert '"2 of 3 hold;' in row or "2 of 3 hold;" in row


def test_all_that_agree_say_so():
    *_, summary = lines(trained(0, 3), trained(1, 4), result("skip_ratio", synthetic.bit(), value=2))
    assert (summary.word, summary.text[:11]) == ("holds", "2 of 2 hold")


def test_another_recipe_is_no_other_seed():
    resnet = result("skip_ratio", synthetic.bit(), value=2)
    found = lines(trained(0, 3), trained(1, 3, recipe={**RECIPE, "epochs": 9}), resnet)
    assert not any(isinstance(line, Summary) for line in found)
    bare = [result("skip_ratio", synthetic.subject(name), value=3) for name in ("a", "b")]
    assert not any(isinstance(line, Summary) for line in lines(*bare, resnet))  # no card, no recipe


def test_both_sides_may_have_seeds():
    found = lines(trained(0, 3), trained(1, 4), trained(0, 1, kind="bit"), trained(1, 2, kind="bit"))
    (summary,) = (line for line in found if isinstance(line, Summary))
    assert len(summary.verdicts) == 4
