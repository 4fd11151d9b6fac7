"""A study on networks that are there already: subjects of a plan, their files, their twins, and what it will take."""

import json
import zipfile

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.golden import torch_seeded
from tf_vitcnn import models, read_table
from tf_vitcnn.commands import replicate, subjects
from tf_vitcnn.errors import BadInput
from tf_vitcnn.models.specs import ViTSpec

PLAN = """
[study]
photographs = {{ PLACES = "places", FEW = {{ of = "$PLACES", each = 2 }} }}
data = "folder:$PLACES"

[[subject]]
name = "mine"
weights = "$DATA/mine.keras"

[subject.card]
trained_on = "elsewhere"
preprocessing = {{ size = [16, 16], resize = "bilinear", antialias = false, crop = 0.5, values = "caffe:104,117,123" }}

[[subject]]
name = "random_mine"
spec = "{{out}}/subjects/mine.keras@random"

[[subject]]
name = "released"
weights = "$DATA/released.safetensors"
config = {config}

[[subject]]
name = "odd"
spec = "{{out}}/subjects/mine.keras"
values = "0..1"

[[analysis]]
run = "attention_distance,skip_ratio"
models = ["mine", "random_mine", "odd"]
flags = "--images 6"

[[analysis]]
run = "cka"
models = ["mine"]
against = ["odd"]
flags = "--images 6 --batch 6 --repeats 1 --taps */resid/post"
"""


def inline(table):
    """A TOML inline table of plain values."""
    return "{ " + ", ".join(f"{k} = {json.dumps(v)}" for k, v in table.items() if v is not None) + " }"


@pytest.fixture
def place(tmp_path):
    """A folder with weights without their configuration, photographs in a zip file, and a plan."""
    data = tmp_path / "data"
    data.mkdir()
    model = models.build(ViTSpec(8, 16, 2, 2, 32), image_size=16, classes=3)
    keras.Model(model.input, model.output["head/logits"]).save(data / "mine.keras")
    case = next(name for name in torch_seeded.cases() if name.startswith("hf_dinov2"))
    folder = torch_seeded.folder(tmp_path / "case", torch_seeded.case(case))
    save_file(load_file(folder / "model.safetensors"), data / "released.safetensors")
    with zipfile.ZipFile(data / "places.zip", "w") as archive:
        for i in range(6):
            picture = np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)
            keras.utils.save_img(tmp_path / "one.png", picture, scale=False)
            archive.write(tmp_path / "one.png", f"{'ab'[i % 2]}/{i}.png")
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "plan.toml").write_text(PLAN.format(config=inline(config)))
    return tmp_path


def study(place, *more):
    args = ["--plan", place / "plan.toml", "--data", place / "data", "--out", place / "out", *more]
    replicate.main(list(map(str, args)), "tf-vitcnn replicate")


def test_given_networks_are_studied_to_the_page_and_kept(place, capsys):
    study(place)
    results = place / "out/results"
    made = {f"{path.parent.name}/{path.stem}": path for path in results.glob("*/*.csv")}
    assert set(made) == {
        *(
            f"{analysis}/{name}"
            for analysis in ("attention_distance", "skip_ratio")
            for name in ("mine", "random_mine", "odd")
        ),
        "cka/mine--odd",
    }
    assert (results / "report.html").exists()
    assert sorted(path.name for path in (place / "out/images/few").glob("*/*")) == ["0.png", "1.png", "2.png", "3.png"]
    records = {name: read_table(path).attrs["sidecar"]["subjects"] for name, path in made.items()}
    (mine,), (twin,) = records["skip_ratio/mine"], records["skip_ratio/random_mine"]
    assert (mine["random"], mine["trained_on"], mine["preprocessing"]["values"]) == (
        False,
        "elsewhere",
        "caffe:104,117,123",
    )
    assert (twin["random"], twin["trained_on"], twin["seed"]) == (True, None, 0)
    assert [each["preprocessing"]["values"] for each in records["cka/mine--odd"]] == ["caffe:104,117,123", "0..1"]
    times = {name: path.stat().st_mtime_ns for name, path in made.items()}
    study(place, "--only", "analyze")
    assert {name: path.stat().st_mtime_ns for name, path in made.items()} == times

    # what is gone is forecast, what is there says how long it took
    made["cka/mine--odd"].unlink()
    capsys.readouterr()
    study(place, "--only", "analyze", "--dry-run")
    *lines, total = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "done in" in line and "cka" not in line] == lines[:3]
    assert lines[3].startswith("cka mine--odd: ")
    assert total.startswith("done: ")
    assert not made["cka/mine--odd"].exists()


def test_what_is_to_be_trained_is_forecast_first(tmp_path, capsys):
    """Steps of the network itself are timed; nothing is trained."""
    text = (
        '[defaults]\ndata = "digits:train"\nval = "digits:test"\nepochs = 2\nmodel = "vit_custom"\n'
        "patch = 2\nwidth = 16\ndepth = 1\nheads = 2\nbatch = 64\n"
        '[[run]]\nname = "vit"\n[[run]]\nname = "tuned"\nfrom = "{out}/vit.keras"\n'
        'drop = ["model", "patch", "width", "depth", "heads"]\n[[run]]\nname = "random"\nepochs = 0\n'
        '[study]\ndata = "digits:test"\n[[analysis]]\nrun = "skip_ratio"\nmodels = ["vit"]\n'
    )
    (tmp_path / "plan.toml").write_text(text)
    args = ["--smoke", "--plan", tmp_path / "plan.toml", "--out", tmp_path / "out", "--dry-run"]
    replicate.main(list(map(str, args)), "tf-vitcnn replicate")
    vit, tuned, random, analysis, total = capsys.readouterr().out.splitlines()
    assert vit.startswith("training vit: ")
    assert vit.endswith(" min")
    assert tuned.startswith("training tuned: not known yet")
    assert random == "training random: 0.0 min"
    assert analysis.startswith("skip_ratio vit: not known yet")
    assert total.endswith("and 2 steps whose networks are not there yet")
    assert not list((tmp_path / "out").rglob("*.keras"))


def test_files_are_laid_beside_their_configuration_and_load(place, monkeypatch):
    from tf_vitcnn import load

    monkeypatch.setenv("DATA", str(place / "data"))
    given = subjects.read(place / "plan.toml", place / "out")
    for _ in range(2):
        for each in given.values():
            each.lay_out()
    released = load(given["released"].spec)
    assert released.name == "released"
    assert released.provenance["random"] is False
    assert load(f"{given['released'].spec}@random").provenance["random"] is True
    (place / "data/mine.keras").unlink()
    with pytest.raises(BadInput, match="expected the weights of mine"):
        given["mine"].lay_out()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "odd"', 'name = "mine"', "two subjects are called 'mine'"),
        ('values = "0..1"', 'value = "0..1"', "unknown setting in .*'value'.*values"),
        ('models = ["mine"]', 'models = ["mien"]', "unknown model in .*'mien'"),
        ('mine.keras"\n\n[subject.card]', 'mine.h5"\n\n[subject.card]', "expected a spec, or weights"),
        ('"places"', '"plaices"', "plaices.zip: no such file"),
        ('name = "odd"', "", "each subject needs a name"),
    ],
)
def test_a_plan_that_cannot_be_meant_is_refused(place, old, new, said):
    text = (place / "plan.toml").read_text()
    assert old in text
    (place / "plan.toml").write_text(text.replace(old, new))
    with pytest.raises(BadInput, match=said):
        study(place)
    assert not (place / "out/results").exists()


def test_our_plan_of_released_networks_is_whole(tmp_path, monkeypatch):
    """Every subject is used, every analysis has its random counterpart or needs none."""
    monkeypatch.setenv("DATA", str(tmp_path))
    monkeypatch.setenv("SAMPLE", "sample")
    monkeypatch.setenv("TINY", "tiny")
    monkeypatch.setenv("TEST", "test")
    path = replicate.PLANS / "real.toml"
    given = subjects.read(path, tmp_path)
    lines = list(replicate.commands(path, tmp_path, given))
    assert {line[2] for line in lines} == {each.spec for each in given.values()}
    heavy = {"cka", "similarity", "localization", "head_subsets", "receptive_field", "probe"}
    for run in heavy:
        assert [line for line in lines if line[0] == run and line[2].endswith("@random")], run


def test_halves_of_the_classes_are_photographs_unless_they_say_otherwise(tmp_path, monkeypatch):
    """So that fine-tuning on the other half is near, on digits far."""
    from tf_vitcnn.data import domains

    for split in ("train", "val"):
        for name in "abcd":
            (tmp_path / "data" / split / name).mkdir(parents=True)
    (tmp_path / "data/val/domain.txt").write_text("drawings\n")
    monkeypatch.setenv("HALVES", "")
    replicate.prepare(replicate.PLANS / "tiny_imagenet.toml", tmp_path / "data", tmp_path / "out")
    halves = tmp_path / "out/halves"
    assert sorted(path.name for path in (halves / "second/train").iterdir()) == ["c", "d", "domain.txt"]
    assert domains.of(f"folder:{halves}/first/train") == "photographs"
    assert domains.of(f"folder:{halves}/first/val") == "drawings"
