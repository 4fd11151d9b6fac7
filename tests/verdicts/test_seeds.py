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


def subjects(found):
    return [line.subjects for line in found if not isinstance(line, Summary)]


def test_networks_are_compared_with_those_of_their_own_seed():
    vits, resnets = [trained(s, 3 + s) for s in range(3)], [trained(s, 1, kind="bit") for s in range(3)]
    found = lines(*vits, *resnets)
    assert subjects(found) == [(f"vit_s{s}", f"bit_s{s}") for s in range(3)]
    assert [line.margins for line in found if isinstance(line, Summary)] == [[2, 3, 4]]


def test_a_network_that_was_trained_once_is_compared_with_all():
    vits, resnets = [trained(s, 3) for s in range(3)], [trained(s, 1, kind="bit") for s in range(2)]
    once = [("vit_s0", "bit_s0"), ("vit_s1", "bit_s0"), ("vit_s2", "bit_s0")]
    assert subjects(lines(*vits, *resnets[:1])) == once
    assert subjects(lines(*vits[1:], *resnets[:1])) == once[1:]
    released = result("skip_ratio", synthetic.bit(), value=1)
    assert len(subjects(lines(*vits, released))) == 3


def test_a_seed_that_one_side_lacks_makes_no_comparison_that_shares_a_network():
    vits, resnets = [trained(s, 3) for s in range(3)], [trained(s, 1, kind="bit") for s in range(2)]
    assert subjects(lines(*vits, *resnets)) == [("vit_s0", "bit_s0"), ("vit_s1", "bit_s1")]
