"""Numbers beside their own thresholds, and trainings of one recipe in one line."""

import pytest

from tests import synthetic
from tests.known import known
from tests.verdicts.test_claim import larger, result
from tests.verdicts.test_seeds import RECIPE, trained
from tf_vitcnn.report.findings import _finding, _numbers, number, row_of
from tf_vitcnn.report.matrix import matrix
from tf_vitcnn.report.model import Report
from tf_vitcnn.report.networks import networks
from tf_vitcnn.report.page import page
from tf_vitcnn.verdicts.claim import judge


def verdict(ours, threshold, random, other):
    """One with random weights whose threshold is another statistic."""
    untrained = [synthetic.subject(f"{kind}_random", kind, random=True) for kind in ("vit", "bit")]
    tables = [result("skip_ratio", synthetic.vit(), value=ours), result("skip_ratio", synthetic.bit(), value=threshold)]
    tables += [result("skip_ratio", s, value=v) for s, v in zip(untrained, (random, other), strict=True)]
    (found,) = judge([known(t, 1e-5) for t in tables], [larger])
    return found


def test_random_weights_stand_beside_their_own_threshold():
    """.0277 beside the trained .0513 reads as if random weights failed; against their own .0155 they hold."""
    row = row_of(verdict(0.0689, 0.0513, 0.0277, 0.0155))
    assert row.group == "free"
    assert row.beside == "0.0277 > 0.0155"
    assert row.line == "0.0689 > 0.0513, random 0.0277 > 0.0155"
    assert "with random weights 0.0277 > 0.0155" in row.summary
    *_, random = _numbers(row)
    assert random == pytest.approx(0.0513 + 0.0277 - 0.0155)  # on the claim's side of the drawn threshold
    low = row_of(verdict(0.0689, 0.0513, 0.0277, 0.0355))
    assert (low.group, low.beside) == ("learned", "0.0277 not > 0.0355")
    assert number(low.check).startswith("0.0689 > 0.0513 (margin 0.018 to 0.018)")


def test_the_page_has_trainings_of_one_recipe_in_one_line():
    tables = [trained(0, 3), trained(1, 2.5), trained(2, 1), result("skip_ratio", synthetic.bit(), value=2)]
    verdicts = judge(tables, [larger])
    text = page(Report(tables, verdicts, [], [], networks(tables)))
    assert "Several trainings of one recipe" in text
    assert "<td>2 of 3</td><td>0.167</td><td>1</td>" in text
    assert text.count('title="vit_s') == 3  # each with what its own numbers say
    assert "Several trainings" not in page(Report(tables, verdicts[:1], [], [], networks(tables)))
    assert _finding([row_of(v) for v in verdicts], Report(tables, verdicts, [], [], [])).rows


@pytest.mark.parametrize("last, group, mark, told", [(1, "mixed", "2/3", "2 of 3 hold"), (4, "holds", "✓", "all 3")])
def test_trainings_of_one_recipe_share_a_column(last, group, mark, told):
    """Their mark, or how many hold; other networks keep columns of their own, and each verdict its numbers."""
    other = trained(9, 5, {**RECIPE, "epochs": 9})
    tables = [trained(0, 3), trained(1, 2.5), trained(2, last), other, result("skip_ratio", synthetic.bit(), value=2)]
    found = matrix(Report(tables, judge(tables, [larger]), [], [], networks(tables)))
    assert [column.title for column in found.columns] == ["vit_s0 · bit_r50x1 × 3", "vit_s9 · bit_r50x1"]
    (line,) = found.lines
    assert [(cell.group, cell.mark) for cell in line.cells] == [(group, mark), ("holds", "✓")]
    assert told in line.cells[0].summary and len(line.shown) == 4
    assert found.folded and "trainings" not in line.cells[1].summary
