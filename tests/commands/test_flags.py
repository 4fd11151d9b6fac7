"""Flags are typed by dataclasses, and what does not fit is told in words of ours."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from tf_vitcnn import analyses
from tf_vitcnn.commands import analyze, catalog, demo, replicate, report, train, verify
from tf_vitcnn.commands.flags import PLACE, Page, flags_of, help_text, parse, parse_one
from tf_vitcnn.errors import BadInput

PAGE = Page("tf-vitcnn toy", "A toy.", "tf-vitcnn toy --size 3")


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What is looked at."""

    folder: Path = field(metadata=PLACE)
    """where it lies"""


@dataclass(frozen=True, kw_only=True)
class Toy(Looked):
    """How it is done."""

    size: int
    """pixels of
    its side"""
    share: float = 0.5
    """of all"""
    names: tuple[str, ...] = ()
    """of its parts"""
    kind: Literal["round", "square"] = "round"
    """its shape"""
    shots: int | Literal["all"] = 10
    """of each"""
    start: str | None = field(default=None, metadata={"word": "from"})
    """another's"""
    flip: bool | None = None
    """turned over"""
    fast: bool = False
    """hurry"""


def toy(words):
    return parse_one(Toy, words.split(), PAGE)


def test_values_have_their_types():
    made = toy("here --size 3 --share=1 --names a b --kind square --shots all --from x --flip false --fast")
    assert made == Toy(
        folder=Path("here"), size=3, share=1.0, names=("a", "b"), kind="square", shots="all", start="x", flip=False,
        fast=True,
    )  # fmt: skip
    assert toy("--size 3 here") == Toy(folder=Path("here"), size=3)


def test_a_value_may_begin_with_a_minus_and_underscores_will_do():
    assert toy("here --size -3 --from -1..1").start == "-1..1"
    assert (
        parse_one(train.Flags, ["--out", "o", "--data", "d", "--model", "m", "--image_size", "8"], PAGE).image_size == 8
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("here --size x", "--size: a whole number, not 'x'"),
        ("here --size 1.5", "--size: a whole number, not '1.5'"),
        ("here --size 3 --share much", "--share: a number, not 'much'"),
        ("here --size 3 --kind oval", "--kind: round or square, not 'oval'"),
        ("here --size 3 --shots few", "--shots: a whole number or all, not 'few'"),
        ("here --size 3 --flip maybe", "--flip: true or false, not 'maybe'"),
        ("here --size", "--size: expected a whole number"),
        ("here --size --fast", "--size: expected a whole number"),
        ("--fast", "FOLDER and --size must be given"),
        ("here there --size 3", "unexpected 'there': flags begin with --"),
        ("here --size 3 --shart 1", "unknown flag '--shart'; did you mean '--share'?"),
    ],
)
def test_what_does_not_fit_is_one_line_that_leads_to_help(words, said):
    with pytest.raises(BadInput) as refused:
        toy(words)
    assert str(refused.value).startswith(said)
    assert str(refused.value).endswith("; see tf-vitcnn toy --help")


def test_help_has_groups_texts_defaults_and_an_example():
    text = help_text(flags_of(Toy), PAGE)
    assert text.splitlines()[0] == "usage: tf-vitcnn toy FOLDER --size N [flags]"
    assert (
        text.index("A toy.") < text.index("example:") < text.index("What is looked at:") < text.index("How it is done:")
    )
    assert "  --size N              pixels of its side (required)" in text
    assert "  --kind round|square   its shape (round)" in text
    assert "  --from START          another's\n" in text


def test_several_analyses_share_flags_that_mean_the_same():
    first, second = analyses.find("skip_ratio"), analyses.find("attention_distance")
    made = parse([first, second, analyze.Flags], ["--model", "vit_b32", "--data", "noise"], PAGE)
    assert [type(one) for one in made] == [first, second, analyze.Flags]


def test_a_flag_with_two_meanings_is_refused():
    @dataclass(frozen=True, kw_only=True)
    class Other:
        """Another."""

        size: float = 1.0

    with pytest.raises(BadInput, match="--size means different things"):
        parse([Toy, Other], [], PAGE)


COMMANDS = [*(module.Flags for module in (analyze, catalog, demo, replicate, report, train, verify))]


@pytest.mark.parametrize("kind", [*COMMANDS, *map(analyses.find, analyses.names())], ids=lambda kind: kind.__module__)
def test_every_flag_has_its_text(kind):
    assert [flag.word for flag in flags_of(kind) if not flag.help] == []
