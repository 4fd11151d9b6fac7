"""`--skip-bad` from the command line to the table: corrupt images left out, named, and no reason to compute again."""

import json

import numpy as np
import pytest
from PIL import Image

from tests import toys
from tf_vitcnn import read_table
from tf_vitcnn.commands import analyze
from tf_vitcnn.engine import door
from tf_vitcnn.errors import BadInput


@pytest.fixture
def folder(tmp_path):
    """24 images, two of them broken."""
    rng = np.random.default_rng(0)
    where = tmp_path / "images"
    where.mkdir()
    for i in range(24):
        Image.fromarray(rng.integers(0, 256, (16, 24, 3), np.uint8)).save(where / f"{i:02}.png")
    for name in ("03.png", "20.png"):
        (where / name).write_bytes((where / name).read_bytes()[:80])
    return where


def command(folder, out, *more):
    words = [
        "skip_ratio",
        "--model",
        "vit_ti16@random",
        "--image-size",
        "16",
        "--data",
        f"folder:{folder}",
        "--out",
        str(out),
        *more,
    ]
    return analyze.main(words, "analyze.py")


def test_from_the_command_line(folder, tmp_path, monkeypatch, capsys):
    with pytest.raises(BadInput, match=r"(03|20)\.png: .*--skip-bad"):
        command(folder, tmp_path / "out")
    command(folder, tmp_path / "out", "--skip-bad")
    csv = tmp_path / "out/skip_ratio/vit_ti16.csv"
    said = capsys.readouterr()
    assert said.out.splitlines()[-1] == str(csv)
    assert [line.rpartition("/")[2] for line in said.err.splitlines() if "skipped" in line] == ["03.png", "20.png"]
    record = json.loads(csv.with_suffix(".json").read_text())
    assert record["data"]["skipped"] == [str(folder / "03.png"), str(folder / "20.png")]
    assert record["parameters"]["images"] == record["data"]["images"] == 22

    # the same command again: its table is there
    monkeypatch.setattr("tf_vitcnn.engine.execute.tables", None)
    command(folder, tmp_path / "out", "--skip-bad")
    assert capsys.readouterr().out.splitlines()[-1] == str(csv)

    monkeypatch.undo()
    for name in ("03.png", "20.png"):
        (folder / name).unlink()
    command(folder, tmp_path / "clean")
    clean = read_table(tmp_path / "clean/skip_ratio/vit_ti16.csv")
    np.testing.assert_allclose(read_table(csv).ratio, clean.ratio, rtol=1e-4)


def test_as_many_as_asked_for_or_none(folder):
    ask = lambda count: door.run(  # noqa: E731
        "skip_ratio", toys.shared("vit"), f"folder:{folder}", images=count, skip_bad=True
    )
    assert ask(22).attrs["sidecar"]["data"]["images"] == 22
    with pytest.raises(BadInput, match="23 images wanted; it has 22 that can be decoded"):
        ask(23)


def test_whole_minibatches_of_what_is_sound(folder):
    table = door.run(
        "cka", toys.shared("vit"), f"folder:{folder}", batch=11, repeats=2, taps=["*/resid/post"], skip_bad=True
    )
    assert table.attrs["sidecar"]["parameters"]["images"] == 22
    assert table.cka.notna().all()
