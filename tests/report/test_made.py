"""The command beside a figure makes its table again."""

import dataclasses
import json
import shlex
from pathlib import Path

import pytest

from tf_vitcnn.commands.analyze import Flags, named
from tf_vitcnn.commands.flags import Page, parse
from tf_vitcnn.report.made import command

SAVED = sorted((Path(__file__).parents[2] / "saved_results/tiny_imagenet").glob("*/vit*.json"))
SAVED = [path for path in SAVED if path.parent.name != "training"]


@pytest.mark.parametrize("path", SAVED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_command_asks_for_what_the_sidecar_records(path):
    sidecar = json.loads(path.read_text())
    program, verb, *rest = shlex.split(command(sidecar))
    assert (program, verb) == ("tf-vitcnn", "analyze")
    kinds, flags = named(rest, "tf-vitcnn analyze")
    analysis, common = parse([*kinds, Flags], flags, Page("tf-vitcnn analyze", "", ""))
    asked = dataclasses.asdict(common) | dataclasses.asdict(analysis)
    assert kinds[0].name == sidecar["analysis"]
    assert asked["model"] == sidecar["subjects"][0]["spec"] and asked["data"] == sidecar["data"]["spec"]
    names = [sidecar["subjects"][0]["name"], (sidecar["subjects"][1:] or [{"name": None}])[0]["name"]]
    assert [asked["name"], asked["against_name"]] == names
    for name, value in sidecar["parameters"].items():
        found = asked[name]
        assert (list(found) if isinstance(found, tuple) else found) == value
