"""One offline HTML page and claims.csv from a directory of tables.

Verdicts, figures and provenance of every table, on one page that opens without a network. What is no table of ours is
named and left out.
"""

import dataclasses
from pathlib import Path

from tf_vitcnn.commands.edge import say
from tf_vitcnn.commands.flags import PLACE, Page, parse_one
from tf_vitcnn.errors import BadInput, unknown
from tf_vitcnn.report.collect import collect, write_report
from tf_vitcnn.report.export import FORMATS, write_charts
from tf_vitcnn.report.page import TITLE


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tables:
    """What is looked at."""

    results: Path = dataclasses.field(metadata=PLACE)
    """the directory that analyze wrote"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags(Tables):
    """What is written."""

    out: Path | None = None
    """the page; RESULTS/report.html unless told otherwise"""
    charts: Path | None = None
    """a directory for single charts, to embed elsewhere"""
    format: str = "html"
    """formats of single charts, parted by commas: html, json, png, svg"""
    title: str = TITLE
    """the page's title"""


def main(args: list[str], prog: str) -> None:
    """Parses the command line and runs."""
    build(parse_one(Flags, args, Page(prog, __doc__ or "", f"{prog} results")))


def build(flags: Flags) -> None:
    """Writes the page, claims.csv and single charts; prints where the page is."""
    formats = _formats(flags.format)
    found = collect(flags.results)
    target = flags.out or flags.results / "report.html"
    write_report(found, target, flags.results, flags.title)
    if flags.charts is not None:
        write_charts(found, flags.charts, formats)
    for problem in found.problems:
        say(f"left out: {problem}")
    print(target)


def _formats(given: str) -> list[str]:
    chosen = list(dict.fromkeys(part.strip() for part in given.split(",") if part.strip()))
    for name in chosen:
        if name not in FORMATS:
            raise unknown("format", name, FORMATS)
    if not chosen:
        raise BadInput(f"--format names no format; available: {', '.join(FORMATS)}")
    return chosen
