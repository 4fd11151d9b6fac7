import re

import numpy as np
import pandas as pd
import pytest

from tests import synthetic
from tests.known import known
from tf_vitcnn.analyses.cka.analysis import CKA
from tf_vitcnn.report.collect import all_claims
from tf_vitcnn.verdicts.claim import Claim, Untested, claim, judge
from tf_vitcnn.verdicts.evidence import CLS_VIT, RESNET, VIT, Need, Result
from tf_vitcnn.verdicts.verdict import Check, above, below, between, order, to_csv

# Every claim of the project's experiments, by id: removing or renaming one breaks people's reports.
IDS = """
uniform-vit resnet-stages low-half-resnet-low-quarter-vit top-half-resnet-next-third-vit vit-top-differs
no-skip-partitions no-skip-costs-accuracy data-needed-high bigger-needs-more-data far-domain-changes-more
finetune-keeps-low mixer-two-blocks mixer-like-vit cka-settings-do-not-matter low-layers-local-and-global
high-layers-global less-data-less-local local-heads-like-resnet vit-low-larger vit-turns-global-midway
branch-shrinks-at-stages residual-keeps-centre skip-stronger-in-vit phase-transition tokens-localized
edge-tokens-see-edges gap-less-localized cls-model-tokens-poor resnet-locations-good-late gap-tokens-alike
patching-hardly-matters more-data-better-middle bigger-vit-better-middle outliers-in-late-layers outliers-draw-attention
measures-agree
""".split()  # noqa: SIM905 - thirty-six names read better so
IDS += [
    f"{asked}-{measure}"
    for asked in (
        *("uniform-vit", "resnet-stages", "low-half-resnet-low-quarter-vit", "top-half-resnet-next-third-vit"),
        "vit-top-differs",
    )
    for measure in ("rsa", "knn")
]


def result(analysis, *subjects, value=1.0, path=None, error=0.01, **more):
    """A table of one number with a standard error over images (None: made before there were any)."""
    record = synthetic.sidecar(analysis, *subjects, **more)
    name = path or f"{analysis}/{'--'.join(s.name for s in subjects)}.csv"
    groups = None if error is None else {"number": error / np.sqrt(19) * np.resize([1.0, -1.0], 20)[:, None]}
    return Result(pd.DataFrame({"model": [subjects[0].name], "number": [value]}), record, name, groups)


def number(r):
    return r.table.number.iloc[0]


@claim("larger", "Fig. 1", "Larger in the ViT.", Need("skip_ratio", VIT), Need("skip_ratio", RESNET))
def larger(vit, resnet):
    return above(number(vit), number(resnet))


def test_every_claim_exists_once():
    found = [c.id for c in all_claims()]
    assert len(found) == len(set(found))
    assert set(found) == set(IDS)


def test_each_pair_of_tables_gets_its_verdict():
    tables = [
        result("skip_ratio", synthetic.vit(), value=3),
        result("skip_ratio", synthetic.gap(), value=1),
        result("skip_ratio", synthetic.bit(), value=2),
        result("receptive_field", synthetic.bit(), value=9),
    ]
    rows = [v.row() for v in larger.verdicts(tables)]
    assert [(r["verdict"], r["value"], r["threshold"]) for r in rows] == [("holds", 3, 2), ("fails", 1, 2)]
    assert rows[0]["subjects"] == "vit_b32 bit_r50x1"
    assert rows[0]["tables"] == "skip_ratio/vit_b32.csv skip_ratio/bit_r50x1.csv"


def test_tagged_tables_speak_only_where_plain_ones_do_not():
    plain, resnet = result("skip_ratio", synthetic.vit(), value=3), result("skip_ratio", synthetic.bit(), value=2)
    variant = result("skip_ratio", synthetic.vit(), value=9, path="skip_ratio/vit_b32.big.csv", tag="big")
    assert [v.row()["value"] for v in larger.verdicts([plain, variant, resnet])] == [3]
    assert [v.row()["value"] for v in larger.verdicts([variant, resnet])] == [9]


def test_random_weights_are_the_baseline_and_never_the_verdict():
    untrained = [synthetic.subject(f"{kind}_random", kind, random=True) for kind in ("vit", "bit")]
    tables = [result("skip_ratio", synthetic.vit(), value=3), result("skip_ratio", synthetic.bit(), value=2)]
    tables += [result("skip_ratio", s, value=v) for s, v in zip(untrained, (0.5, 0.7), strict=True)]
    (verdict,) = larger.verdicts(tables)
    assert verdict.row()["baseline"] == 0.5
    (only_random,) = larger.verdicts(tables[2:])
    assert only_random.word == "untested"


def test_a_baseline_of_another_architecture_is_none():
    other = synthetic.subject("small", blocks=4, random=True)
    bit = synthetic.subject("r", "bit", random=True)
    tables = [result("skip_ratio", s, value=1) for s in (synthetic.vit(), synthetic.bit(), other, bit)]
    (verdict,) = larger.verdicts(tables)
    assert not verdict.baseline


def test_tables_on_other_images_are_not_compared():
    tables = [result("skip_ratio", synthetic.vit()), result("skip_ratio", synthetic.bit(), data="digits:test")]
    (verdict,) = larger.verdicts(tables)
    assert verdict.word == "untested"
    assert verdict.note.startswith("image source differ: imagenet2012:validation ")
    assert verdict.note.endswith("in skip_ratio/bit_r50x1.csv")


def test_what_is_missing_is_said():
    (verdict,) = larger.verdicts([result("skip_ratio", synthetic.vit())])
    assert verdict.row() | {"claim": "larger"} == verdict.row()
    assert verdict.note == "needs skip_ratio of resnet"


def test_pair_condition_and_sidecar_fields_tell_tables_apart():
    few = synthetic.subject("few", training_images=10)

    @claim(
        "less", "Fig. 4", "Less.", Need("skip_ratio", CLS_VIT), Need("skip_ratio", CLS_VIT),
        pair=lambda a, b: a.subject["training_images"] < b.subject["training_images"],
    )  # fmt: skip
    def less(a, b):
        return below(number(a), number(b))

    verdicts = less.verdicts([result("skip_ratio", synthetic.vit(), value=2), result("skip_ratio", few, value=1)])
    assert [v.subjects for v in verdicts] == [("few", "vit_b32")]


def test_many_tables_at_once_grouped():
    @claim("all", "App. A", "All.", Need("skip_ratio", many=True, group=lambda r: r.subject["name"]))
    def everything(group):
        return [above(number(r), 1.5, what=r.path) for r in group]

    tables = [result("skip_ratio", synthetic.vit(), value=v, path=f"skip_ratio/{v}.csv") for v in (1, 2)]
    (verdict,) = everything.verdicts([*tables, *[result("skip_ratio", synthetic.subject("r", random=True), value=0)]])
    assert verdict.word == "fails"
    assert verdict.row()["value"] == 1
    assert verdict.row()["tables"] == "skip_ratio/1.csv skip_ratio/2.csv"


@pytest.mark.parametrize(
    "outcome, word",
    [
        (above(2, 1), "holds"),
        (below(2, 1), "fails"),
        (between(0.3, 0.25, 0.7), "holds"),
        ([above(2, 1), above(0, 1)], "fails"),
        (Untested("too few subsets"), "untested"),
        (above(float("nan"), 1), "untested"),
        ([], "untested"),
    ],
)
def test_verdicts(outcome, word):
    made = Claim("c", "Fig. 1", "s", needs=(Need("skip_ratio"),), measure=lambda r: outcome)
    (verdict,) = made.verdicts([result("skip_ratio", synthetic.vit())])
    assert verdict.word == word


def test_a_table_without_what_the_statistic_reads_is_untested():
    def lacking(r):
        return above(r.require(["block07/mlp/out"], "model"), 1)

    made = Claim("c", "Fig. 1", "s", needs=(Need("skip_ratio"),), measure=lacking)
    (verdict,) = made.verdicts([result("skip_ratio", synthetic.vit())])
    assert verdict.word == "untested"
    assert "block07/mlp/out" in verdict.note


def test_a_bug_in_a_claim_is_no_missing_data():
    made = Claim("c", "Fig. 1", "s", needs=(Need("skip_ratio"),), measure=lambda r: above(r.table.nothing.mean(), 1))
    with pytest.raises(AttributeError, match="nothing"):
        made.verdicts([result("skip_ratio", synthetic.vit())])


def test_csv_has_the_fixed_columns():
    text = to_csv(v.row() for v in larger.verdicts([]))
    assert text.splitlines()[0] == (
        "claim,place,verdict,value,threshold,baseline,subjects,tables,note,"
        "low,high,baseline_value,baseline_threshold,baseline_verdict,origin"
    )
    assert text.splitlines()[1].startswith("larger,Fig. 1,untested,,,,,")
    assert ",needs skip_ratio of " in text.splitlines()[1]


def test_csv_tells_both_bounds_of_an_interval():
    checks = {"inside": between(0.3, 0.25, 0.7), "over": above(2, 1 / 3)}
    needs = (Need("skip_ratio"),)
    made = [Claim(c, "Fig. 1", "s", needs=needs, measure=lambda r, check=check: check) for c, check in checks.items()]
    rows = to_csv(v.row() for v in judge([result("skip_ratio", synthetic.vit())], made)).splitlines()[1:]
    assert rows[0].startswith("inside,Fig. 1,holds,0.3,0.25..0.7,,")
    assert rows[1].startswith("over,Fig. 1,holds,2,0.333333,,")


def test_places_are_sorted_as_in_the_paper():
    places = ["App. A", "Fig. C.4", "Fig. 12", "Fig. 3", "Fig. 11 left"]
    assert sorted(places, key=order) == ["Fig. 3", "Fig. 11 left", "Fig. 12", "Fig. C.4", "App. A"]


def test_a_claim_in_ten_lines_is_a_check():
    assert isinstance(larger(result("skip_ratio", synthetic.vit()), result("skip_ratio", synthetic.bit())), Check)


@pytest.fixture(scope="module")
def similar(tmp_path_factory):
    """Tables of cka that look as the paper's figures do."""
    from tf_vitcnn.analyses import read_table

    files = synthetic.cka_results(tmp_path_factory.mktemp("cka"))
    tables = [(read_table(f), f) for f in files]
    return [known(Result.of(t, f"cka/{f.name}")) for t, f in tables]


def test_cka_claims_hold_on_tables_like_the_papers(similar):
    words = {v.claim.id: v.word for v in judge(similar, CKA.claims)}
    unmet = {"bigger-needs-more-data", "far-domain-changes-more", "cka-settings-do-not-matter"}
    assert {c for c, word in words.items() if word == "untested"} == unmet
    # its records do not say how many images the accuracies are of
    assert {c for c, word in words.items() if word != "holds"} - unmet == {"no-skip-costs-accuracy"}


def test_cka_claims_fail_on_the_opposite(similar):
    """Swapping the ViT's and the ResNet's matrices turns the verdicts on Fig. 1."""
    by_name = {r.path: r for r in similar}
    vit, resnet = by_name["cka/vit_b32.csv"], by_name["cka/bit_r50x1.csv"]
    a = known(Result(synthetic.cka(synthetic.vit(), synthetic.vit(), synthetic.staged), vit.sidecar, vit.path))
    b = known(Result(synthetic.cka(synthetic.bit(), synthetic.bit(), synthetic.uniform), resnet.sidecar, resnet.path))
    words = {v.claim.id: v.word for v in judge([a, b], all_claims())}
    assert words["uniform-vit"] == words["resnet-stages"] == "fails"


def test_a_cross_table_serves_from_either_side(similar):
    crossed = next(r for r in similar if r.path == "cka/vit_b32--bit_r50x1.csv")
    turned = crossed.swapped()
    values = [[v.row()["value"] for v in judge([r], all_claims()) if v.checks] for r in (crossed, turned)]
    assert values[0] == values[1]
    assert len(values[0]) == 3


def test_settings_of_one_model_are_compared(similar):
    base = next(r for r in similar if r.path == "cka/vit_b32.csv")
    record = synthetic.sidecar("cka", synthetic.vit(), batch=128, images=2560, repeats=10)
    for shift, word in ((0.01, "holds"), (0.06, "fails")):
        moved = base.table.assign(cka=base.table.cka + shift)
        verdicts = judge([base, known(Result(moved, record, "cka/vit_b32.small.csv"))], all_claims())
        (row,) = [v.row() for v in verdicts if v.claim.id == "cka-settings-do-not-matter"]
        assert row["verdict"] == word
        assert row["value"] == pytest.approx(shift)


def test_larger_model_needs_more_data(similar):
    big = synthetic.subject("vit_l16", blocks=12)
    part = synthetic.subject("vit_l16_0.03", blocks=12, training_images=38435)
    table = synthetic.matching(part, big, lambda a: 1 - a)
    made = Result(table, synthetic.sidecar("cka", part, big, pairs="matching"), "cka/l.csv")
    tables = [*similar, known(made)]
    (verdict,) = [v for v in judge(tables, all_claims()) if v.claim.id == "bigger-needs-more-data"]
    assert verdict.word == "holds"
    assert verdict.checks[0].what == "0.03 of the data"


@pytest.mark.parametrize("classes", [10, 45])
def test_far_domains_are_told_from_near_ones(similar, classes):
    tuned = {"finetuned_from": "vit_b32", "trained_on": "resisc45:train"}
    far = synthetic.subject(f"far{classes}", classes=classes, **tuned)
    table = synthetic.matching(far, synthetic.vit(), lambda a: 1 - 0.8 * a)
    made = Result(table, synthetic.sidecar("cka", far, synthetic.vit(), pairs="matching"), "cka/far.csv")
    tables = [*similar, known(made)]
    (verdict,) = [v for v in judge(tables, all_claims()) if v.claim.id == "far-domain-changes-more"]
    assert verdict.word == "holds"


def test_ids_are_words():
    assert all(re.fullmatch(r"[a-z0-9-]+", c.id) and c.statement.endswith(".") for c in all_claims())
