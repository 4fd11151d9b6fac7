"""Which tables a claim may read together: each case here was judged once and should not have been."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from etils import epath

from tests import synthetic
from tests.known import known
from tf_vitcnn import analyses, taps
from tf_vitcnn.analyses import read_table
from tf_vitcnn.analyses.cka import claims as of_cka
from tf_vitcnn.analyses.cka import training_claims
from tf_vitcnn.analyses.head_subsets.claims import local_heads_like_resnet
from tf_vitcnn.analyses.localization.claims import gap_less_localized, tokens_localized
from tf_vitcnn.analyses.skip_ratio.claims import skip_stronger_in_vit
from tf_vitcnn.report.collect import all_claims, gather
from tf_vitcnn.verdicts.cause import came_from, differences, same_architecture
from tf_vitcnn.verdicts.claim import judge
from tf_vitcnn.verdicts.evidence import Result, parts


def square(who, similarity, names=None, **run):
    """A cka table of one model, of all default layers unless `names` chooses."""
    table = synthetic.cka(who, who, similarity, **({"names": names} if names else {}))
    record = synthetic.sidecar("cka", who, taps=names(who.taps) if names else None, **run)
    return known(Result(analyses.find("cka").schema.check(table), record, f"cka/{who.name}.csv"))


def vit(**run):
    return square(synthetic.vit(), synthetic.uniform, **run)


def bit(**run):
    return square(synthetic.bit(), synthetic.staged, **run)


def test_a_table_of_one_block_says_nothing_of_all_layers():
    (verdict,) = judge(
        [vit(names=lambda taps: [t for t in taps if t.startswith("block00/")]), bit()], [of_cka.uniform_vit]
    )
    assert verdict.word == "untested"
    assert "chosen by --taps" in verdict.note and "lacking, stem/embed first" in verdict.note
    (verdict,) = judge([vit(), bit()], [of_cka.uniform_vit])
    assert verdict.word == "holds"


def test_branches_before_layer_scale_are_all_layers():
    """A table without the 24 products of a ViT's 12 blocks once answered no claim."""
    scaled = synthetic.subject("scaled", "scaled")
    assert len(scaled.taps) == len(synthetic.vit().taps) + 2 * 6
    names = taps.default(scaled.taps)
    assert names == taps.default(synthetic.vit().taps)
    table = square(scaled, synthetic.uniform, names=lambda _: names)
    (verdict,) = judge([table, bit()], [of_cka.uniform_vit])
    assert (verdict.word, verdict.note) == ("holds", "")


def test_chosen_taps_of_the_other_network_say_nothing_of_all_layers():
    x, y = synthetic.vit(), synthetic.bit()
    few = [tap for tap in y.taps if tap.startswith("stage1/")]
    table = synthetic.cka(x, y, synthetic.crossed)
    table = analyses.find("cka").schema.check(table[table.layer_y.isin(few)])
    record = synthetic.sidecar("cka", x, y)
    record["parameters"]["against_taps"] = ["stage1/*"]
    for crossed in (whole := known(Result(table, record, "cka/x--y.csv")), whole.swapped()):
        (verdict,) = judge([crossed], [of_cka.vit_top_differs])
        assert verdict.word == "untested" and "layers of bit_r50x1, chosen by --taps" in verdict.note


def test_heads_of_a_later_block_are_not_those_of_the_first():
    x, y = synthetic.vit(), synthetic.bit()
    first, later = (
        known(
            Result(synthetic.head_subsets(x, y), synthetic.sidecar("head_subsets", x, y, block=block), f"{block}.csv")
        )
        for block in (0, 4)
    )
    (verdict,) = judge([first, later], [local_heads_like_resnet])
    assert verdict.tables == ("0.csv",)
    (verdict,) = judge([later], [local_heads_like_resnet])
    assert verdict.word == "untested"


def localized(who, layer):
    row, col = np.divmod(np.arange(16), 4)
    cells = [
        (r, c, a, b, float((r, c) == (a, b)))
        for r, c in zip(row, col, strict=True)
        for a, b in zip(row, col, strict=True)
    ]
    table = pd.DataFrame(cells, columns=["token_row", "token_col", "patch_row", "patch_col", "cka"])
    table = table.assign(model=who.name, depth=who.depths[layer], layer=layer)
    record = synthetic.sidecar("localization", who, taps=[layer])
    return known(Result(analyses.find("localization").schema.check(table), record, f"localization/{who.name}.csv"))


def test_the_last_block_is_the_models_not_the_tables():
    early = [localized(synthetic.vit(), "block00/resid/post"), localized(synthetic.bit(), "stage1/unit00/resid/post")]
    (verdict,) = judge(early, [tokens_localized])
    assert verdict.word == "untested"
    assert "block05/resid/post" in verdict.note
    late = [localized(synthetic.vit(), "block05/resid/post"), localized(synthetic.bit(), "stage4/unit01/resid/post")]
    (verdict,) = judge(late, [tokens_localized])
    assert verdict.checks


@pytest.mark.parametrize(
    "run, said",
    [
        ({"images": 64, "batch": 8}, "images differ: 10240 in cka/vit_b32.csv, 64 in cka/bit_r50x1.csv"),
        ({"batch": 512}, "batch differ: 1024 in cka/vit_b32.csv, 512 in cka/bit_r50x1.csv"),
        ({"repeats": 3}, "repeats differ: 20 in"),
        ({"seed": 3}, "seed differ: 0 in"),
        ({"precision": "bfloat16"}, "precision differ: float32 in"),
    ],
)
def test_other_images_and_settings_are_named(run, said):
    (verdict,) = judge([vit(), bit(**run)], [of_cka.uniform_vit])
    assert verdict.word == "untested"
    assert said in verdict.note
    assert verdict.subjects == ("vit_b32", "bit_r50x1")


def test_another_fingerprint_under_the_same_spec_is_another_source():
    other = bit()
    other.sidecar["data"]["fingerprint"] = "another"
    (verdict,) = judge([vit(), other], [of_cka.uniform_vit])
    assert verdict.word == "untested"
    assert verdict.note.startswith("image source differ: imagenet2012:validation (")
    moved = bit()
    moved.sidecar["data"]["spec"] = "folder:elsewhere"  # the same images under another name
    (verdict,) = judge([vit(), moved], [of_cka.uniform_vit])
    assert verdict.word == "holds"


def test_pooling_is_judged_on_networks_that_differ_in_nothing_else():
    gap = synthetic.subject("large_gap", "gap", blocks=12, training_images=14_000_000, trained_on="imagenet21k")
    last = "block11/resid/post"
    tables = [localized(gap, last), localized(synthetic.vit(), "block05/resid/post")]
    (verdict,) = judge(tables, [gap_less_localized])
    assert verdict.word == "untested"
    for difference in ("architectures of large_gap, vit_b32", "imagenet21k of large_gap", "14000000 of large_gap"):
        assert difference in verdict.note
    tables = [localized(synthetic.gap(), "block05/resid/post"), localized(synthetic.vit(), "block05/resid/post")]
    (verdict,) = judge(tables, [gap_less_localized])
    assert verdict.checks


def test_a_recipe_that_differs_is_another_cause():
    record = {"epochs": 4, "rate": 0.001, "weight_decay": 0.05, "seed": 0}
    tables = [localized(synthetic.gap(), "block05/resid/post"), localized(synthetic.vit(), "block05/resid/post")]
    tables[0].subject["recipe"] = {**record, "rate": 0.0003, "seed": 5}
    tables[1].subject["recipe"] = record
    (verdict,) = judge(tables, [gap_less_localized])
    assert verdict.checks  # the rate of pooled models is the paper's
    tables[1].subject["recipe"] = {**record, "epochs": 9}
    (verdict,) = judge(tables, [gap_less_localized])
    assert verdict.note == "differ in more than pooling: recipe's epochs 4 of vit_b32_gap, 9 of vit_b32"


def test_a_record_without_a_fraction_was_trained_on_all_images():
    whole, older = ({"name": name, "training_images": 100, "taps": ["a"]} for name in "ab")
    whole["fraction"] = 1.0
    assert not differences(whole, older, "pool")
    assert "fraction 0.5 of a" in differences({**whole, "fraction": 0.5}, older, "pool")


@pytest.mark.parametrize(
    ("specs", "classes", "alike"),
    [
        (("vit_b32@one", "vit_b32_gap@two"), (10, 10), True),  # the catalog's name says the sizes
        (("vit_b32", "vit_l32"), (10, 10), False),
        (("vit@one.npz", "vit@other.npz"), (10, 10), False),  # files of any size have this name
        (("a.keras", "b.keras"), (10, 10), False),
        (("a.keras", "b.keras"), (3, 10), True),  # 700 parameters of 7 classes more
        (("a.keras", "b.keras"), (4, 10), False),
        (("a.keras", "b.keras"), (None, 10), False),
    ],
)
def test_sizes_are_the_catalogs_or_what_counts_of_parameters_allow(specs, classes, alike):
    one, other = (
        {"name": spec, "spec": spec, "parameters": count, "classes": many, "taps": ["a", "head/logits"]}
        for spec, count, many in zip(specs, (1000, 1700), classes, strict=True)
    )
    assert same_architecture(one, other) == same_architecture(other, one) == alike
    assert same_architecture({**one, "taps": ["a"]}, other) == alike  # heads do not count
    assert not same_architecture({**one, "taps": ["b"]}, other)
    assert not same_architecture({**one, "no_skip": [1]}, other)
    assert same_architecture({**one, "parameters": 1700}, other)


# --- baselines ---


def random(kind, name=None, **more):
    return synthetic.subject(name or f"{kind}_random", kind, random=True, **more)


def test_free_and_learned():
    trained = [vit(), bit()]
    shown = [square(random("vit"), synthetic.uniform), square(random("bit"), synthetic.staged)]
    (verdict,) = judge([*trained, *shown], [of_cka.uniform_vit])
    assert (verdict.word, verdict.baseline.word, verdict.origin) == ("holds", "holds", "free")
    turned = [square(random("vit"), synthetic.staged), square(random("bit"), synthetic.uniform)]
    (verdict,) = judge([*trained, *turned], [of_cka.uniform_vit])
    assert (verdict.word, verdict.baseline.word, verdict.origin) == ("holds", "fails", "learned")
    row = verdict.row()
    assert row["baseline"] == row["baseline_value"] == verdict.baseline.value
    assert row["baseline_threshold"] == verdict.baseline.threshold != verdict.threshold
    assert (row["baseline_verdict"], row["origin"]) == ("fails", "learned")


def test_an_undecided_baseline_leaves_the_origin_open_unless_it_lies_apart():
    def tables(error):
        alike = [square(random(kind), synthetic.staged) for kind in ("vit", "bit")]
        return [vit(), bit(), *(known(t, error) for t in alike)]

    (near,) = judge(tables(1e-6), [of_cka.uniform_vit])
    (far,) = judge(tables(10.0), [of_cka.uniform_vit])
    assert near.baseline.word in ("holds", "fails")
    assert (far.word, far.baseline.word, far.origin) == ("holds", "undecided", "")
    same = dataclasses.replace(near, baseline=dataclasses.replace(near.baseline, checks=tuple(
        dataclasses.replace(c, low=-0.01, high=0.01) for c in near.baseline.checks)))  # fmt: skip
    assert (same.baseline.word, same.origin) == ("undecided", "learned")


@pytest.mark.parametrize(
    "run, said", [({"images": 8, "batch": 8}, "images differ"), ({"repeats": 1}, "repeats differ")]
)
def test_a_baseline_in_another_setting_is_refused(run, said):
    shown = [square(random("vit"), synthetic.uniform, **run), square(random("bit"), synthetic.staged, **run)]
    (verdict,) = judge([vit(), bit(), *shown], [of_cka.uniform_vit])
    assert verdict.word == "holds" and verdict.baseline is None and verdict.origin == ""
    assert verdict.note.startswith(f"no baseline, {said}")


def test_a_baseline_on_noise_is_refused():
    from tf_vitcnn.data.sources import open_source

    noise = open_source("noise:64")
    shown = [
        square(random(kind), shape, data=noise, images=8, batch=8)
        for kind, shape in (("vit", synthetic.uniform), ("bit", synthetic.staged))
    ]
    (verdict,) = judge([vit(), bit(), *shown], [of_cka.uniform_vit])
    assert verdict.baseline is None
    assert "image source differ" in verdict.note


def pair(x, y, similarity):
    table = synthetic.matching(x, y, similarity)
    return known(Result(table, synthetic.sidecar("cka", x, y, pairs="matching"), f"cka/{x.name}--{y.name}.csv"))


def test_less_data_and_fine_tuning_have_baselines_two_random_networks():
    untrained = pair(random("vit", "r1"), random("vit", "r0"), lambda a: 0.2 + 0.1 * a)
    few = synthetic.subject("few", training_images=1000)
    less = pair(few, synthetic.vit(), lambda a: 1 - a**2)
    (verdict,) = judge([less, untrained], [training_claims.data_needed_high])
    assert (verdict.word, verdict.baseline.word, verdict.origin) == ("holds", "fails", "learned")
    tuned = pair(synthetic.subject("tuned", finetuned_from="vit_b32"), synthetic.vit(), lambda a: 1 - 0.3 * a**3)
    (verdict,) = judge([tuned, untrained], [training_claims.finetune_keeps_low])
    assert (verdict.word, verdict.baseline.word, verdict.origin) == ("holds", "fails", "learned")


def test_accuracies_of_cards_bring_their_own_error():
    cut = synthetic.subject("cut", cut=(3,), final_accuracy=0.77)
    tables = [square(cut, synthetic.partitioned), vit()]
    (verdict,) = judge(tables, [training_claims.no_skip_costs_accuracy])
    assert verdict.word == "undecided" and "how many images" in verdict.note
    for count, word in ((50_000, "holds"), (500, "undecided")):
        for table in tables:
            table.subject["validation_images"] = count
        (verdict,) = judge(tables, [training_claims.no_skip_costs_accuracy])
        se = 100 * np.sqrt(0.8 * 0.2 / count + 0.77 * 0.23 / count)
        assert (verdict.word, verdict.note) == (word, "")
        assert (verdict.low, verdict.high) == pytest.approx((2 - 1.96 * se, 2 + 1.96 * se), rel=1e-3)
    bare = [dataclasses.replace(table, groups=None) for table in tables]
    (again,) = judge(bare, [training_claims.no_skip_costs_accuracy])
    assert again.low == pytest.approx(verdict.low, rel=1e-4)  # the numbers are in no table


# --- fine-tuning ---


def released(name, variant, source, trained_on, finetuned_from, **more):
    who = synthetic.subject(name, trained_on=trained_on, finetuned_from=finetuned_from, **more)
    return dataclasses.replace(who, provenance={**who.provenance, "variant": variant, "source": source})


@pytest.mark.parametrize(
    "variant, source, before_variant, before_source, fits",
    [
        ("imagenet21k+imagenet2012", "a/B_32.npz", "imagenet21k", "b/B_32.npz", True),
        ("augreg-imagenet21k+x-224", "g/B_32-lr1--imagenet2012.npz", "augreg-imagenet21k", "g/B_32-lr1.npz", True),
        ("augreg-imagenet21k+x-224", "g/B_32-lr2--imagenet2012.npz", "augreg-imagenet21k", "g/B_32-lr1.npz", False),
        ("augreg-imagenet21k+x-224", "g/B_32-lr1--imagenet2012.npz", "imagenet21k", "b/B_32.npz", False),
    ],
)
def test_a_released_checkpoint_came_from_the_one_of_its_release(variant, source, before_variant, before_source, fits):
    """The catalog's `finetuned_from` is a data set's name."""
    tuned = released("tuned", variant, source, "imagenet2012", "imagenet21k", classes=10)
    before = released("before", before_variant, before_source, "imagenet21k", None, classes=20)
    (verdict,) = judge([pair(tuned, before, lambda a: 1 - 0.3 * a**3)], [training_claims.finetune_keeps_low])
    assert verdict.word == ("holds" if fits else "untested")


def test_the_catalogs_checkpoints_are_recognised():
    from tf_vitcnn.checkpoints.catalog import variants

    known_ = {name: {"variant": name, **entry.about()} for name, entry in variants("vit_b16").items()}
    tuned = {name: [b for b in known_ if came_from(known_[name], known_[b])] for name in known_}
    assert tuned["imagenet21k+imagenet2012"] == ["imagenet21k"]
    assert tuned["augreg-imagenet21k+imagenet2012-224"] == ["augreg-imagenet21k"]
    assert tuned["imagenet21k"] == tuned["sam"] == []


def tuned_on(name, trained_on, similarity, domain=None):
    made = pair(synthetic.subject(name, finetuned_from="vit_b32", trained_on=trained_on), synthetic.vit(), similarity)
    made.subject["domain"] = domain
    return made


def test_far_is_another_kind_of_pictures_as_declared_or_known():
    near = tuned_on("near", "cifar100", lambda a: 1 - 0.1 * a)
    far = tuned_on("far", "folder:fields/train", lambda a: 1 - 0.8 * a)
    (verdict,) = judge([near, far], [training_claims.far_domain_changes_more])
    assert verdict.word == "untested"
    assert "fine-tuned on another kind of pictures" in verdict.note
    far.subject["domain"] = "satellite"
    (verdict,) = judge([near, far], [training_claims.far_domain_changes_more])
    assert verdict.word == "holds" and verdict.subjects == ("far", "vit_b32", "near")


# --- what any table may lack ---


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """A table for every need of every claim, with errors."""
    root = tmp_path_factory.mktemp("all")
    files = [*synthetic.cka_results(root), *synthetic.all_results(root)]
    found = [known(Result.of(read_table(f), str(f.relative_to(root)))) for f in files]
    similar = [r for r in found if r.sidecar["analysis"] == "cka" and r.parameters["pairs"] == "all"]
    return [*found, *(measured_otherwise(r) for r in similar), outliers(synthetic.vit())]


def measured_otherwise(result):
    """A table of `similarity` whose measures all say what CKA says."""
    record = {**json.loads(json.dumps(result.sidecar)), "analysis": "similarity"}
    record["parameters"] = {"tokens": "all", "images": 10240, "batch": 1024, "seed": 0, "taps": None}
    table = result.table.assign(rsa=result.table.cka, knn=result.table.cka)
    return known(Result(table, record, result.path.replace("cka/", "similarity/")))


def outliers(who):
    """A table of `tokens` with more outliers in every block, which draw attention."""
    rows = [
        (who.name, depth, layer, statistic, factor * depth / 1000)
        for depth, layer in synthetic.ends(who)
        for statistic, factor in (("outlier_share", 1), ("outlier_attention", 3))
    ]
    table = pd.DataFrame(rows, columns=["model", "depth", "layer", "statistic", "value"])
    return known(Result(table, synthetic.sidecar("tokens", who), "tokens/vit_b32.csv"))


def thinned(result, keep):
    """The table with the rows of some of its layers only."""
    for column in ("layer", "layer_x", "layer_y"):
        if column in result.table:
            names = list(dict.fromkeys(result.table[column]))
            result = dataclasses.replace(
                result, table=result.table[result.table[column].isin(keep(names))].reset_index(drop=True), memo={}
            )
    return known(result) if len(result.table) else None


@pytest.mark.parametrize(
    "keep",
    [lambda n: n[1:], lambda n: n[:-1], lambda n: n[:1], lambda n: n[len(n) // 2 :], lambda n: n[::2]],
    ids=["without the first", "without the last", "the first alone", "the upper half", "every other"],
)
def test_every_claim_on_tables_that_lack_its_layers_is_untested_or_measured_never_an_error(everything, keep):
    few = [made for result in everything if (made := thinned(result, keep))]
    for made in few:
        made.sidecar["parameters"]["taps"] = ["chosen"]
    verdicts = judge(few, all_claims())
    assert len({v.claim.id for v in verdicts}) == len(all_claims())
    assert all(v.note for v in verdicts if v.word == "untested")


@pytest.mark.parametrize("lost", ["taps", "image_size", "patch_size", "depth", "pool", "structure", "architecture"])
def test_every_claim_on_records_that_lack_a_field_is_untested_or_measured_never_an_error(everything, lost):
    bare = []
    for result in everything:
        record = json.loads(json.dumps(result.sidecar))
        for subject in record["subjects"]:
            subject.pop(lost, None)
        bare.append(dataclasses.replace(result, sidecar=record, memo={}))
    assert all(v.note for v in judge(bare, all_claims()) if v.word == "untested")


def test_families_of_older_sidecars_are_read():
    a, b = vit(), bit()
    for old in ("vit", "deit", "hybrid"):
        a.subject["family"], b.subject["family"] = old, "bit"
        (verdict,) = judge([a, b], [of_cka.uniform_vit])
        assert verdict.word == "holds"


# --- all pairs in one table ---


def all_pairs():
    x, y = synthetic.vit(), synthetic.bit()
    tables = [synthetic.cka(x, x, synthetic.uniform), synthetic.cka(x, y, synthetic.crossed)]
    table = pd.concat([*tables, synthetic.cka(y, y, synthetic.staged)])
    return analyses.find("cka").schema.check(table), synthetic.sidecar("cka", x, y, all_pairs=True)


def test_all_pairs_are_three_tables_to_the_claims():
    table, record = all_pairs()
    whole = known(Result(table, record, "cka/vit_b32--bit_r50x1.csv"))
    found = parts(whole)
    subjects = [[s["name"] for s in part.sidecar["subjects"]] for part in found]
    assert sorted(subjects) == [["bit_r50x1"], ["vit_b32"], ["vit_b32", "bit_r50x1"]]
    words = {v.claim.id: v.word for v in judge(found, all_claims()) if v.checks}
    assert words["uniform-vit"] == "holds"
    assert {"low-half-resnet-low-quarter-vit", "top-half-resnet-next-third-vit", "vit-top-differs"} <= set(words)
    alone = [vit(), bit(), square(synthetic.vit(), synthetic.uniform)]
    plain = next(v for v in judge(alone, [of_cka.uniform_vit]))
    assert plain.value == pytest.approx(next(v.value for v in judge(found, [of_cka.uniform_vit])))


def test_the_report_takes_a_table_of_all_pairs(tmp_path):
    table, record = all_pairs()
    synthetic.file(tmp_path, table, record)
    results, problems = gather(epath.Path(tmp_path))
    assert problems == [] and len(results) == 3


# --- records that are no records ---


@pytest.mark.parametrize(
    "where, value, said",
    [
        (("subjects", 0, "taps"), "block00", "taps of vit_b32"),
        (("subjects", 0, "no_skip"), ["a"], "no_skip"),
        (("subjects", 0, "image_size"), [224], "image_size"),
        (("subjects", 0, "training_images"), "many", "training_images"),
        (("subjects", 0, "structure"), {"units": [{"branch": 3}]}, "structure"),
        (("parameters", "batch"), [8], "batch"),
        (("data", "fingerprint"), {}, "fingerprint"),
    ],
)
def test_a_record_of_other_types_is_refused_in_one_line(tmp_path, where, value, said):
    synthetic.file(tmp_path, synthetic.skip_ratio(synthetic.vit()), synthetic.sidecar("skip_ratio", synthetic.vit()))
    path = tmp_path / "skip_ratio/vit_b32.json"
    record = json.loads(path.read_text())
    part = record
    for key in where[:-1]:
        part = part[key]
    part[where[-1]] = value
    path.write_text(json.dumps(record))
    results, problems = gather(epath.Path(tmp_path))
    assert results == []
    assert len(problems) == 1 and said in problems[0] and "\n" not in problems[0]
    shutil.rmtree(tmp_path)


def test_skips_need_every_branch():
    whole = Result(synthetic.skip_ratio(synthetic.vit()), synthetic.sidecar("skip_ratio", synthetic.vit()), "vit.csv")
    resnet = Result(synthetic.skip_ratio(synthetic.bit()), synthetic.sidecar("skip_ratio", synthetic.bit()), "bit.csv")
    (verdict,) = judge([known(whole), known(resnet)], [skip_stronger_in_vit])
    assert verdict.word == "holds"
    part = dataclasses.replace(whole, table=whole.table[whole.table.layer != "block03/mlp/out"].reset_index(drop=True))
    (verdict,) = judge([known(part), known(resnet)], [skip_stronger_in_vit])
    assert verdict.note == "vit.csv lacks 1 of the 12 layers that it speaks of, block03/mlp/out first"
