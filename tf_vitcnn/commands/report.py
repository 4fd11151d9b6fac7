"""Builds one offline HTML page (and claims.csv) from a directory of tables."""

import sys
from pathlib import Path

import tyro

from tf_vitcnn.commands.edge import call
from tf_vitcnn.errors import BadInput, unknown
from tf_vitcnn.report.collect import collect, write_report
from tf_vitcnn.report.export import FORMATS, write_charts
from tf_vitcnn.report.page import TITLE


def main(args: list[str], prog: str) -> int | None:
    """Parses the command line and runs."""
    return call(build, args, prog, __doc__)


def build(
    results: tyro.conf.Positional[Path],
    out: Path | None = None,
    charts: Path | None = None,
    format: str = "html",
    title: str = TITLE,
) -> None:
    """Verdicts, figures and provenance of every table under RESULTS, on one page that opens without a network.

    Args:
        results: The directory that scripts/analyze.py wrote.
        out: The page; default RESULTS/report.html.
        charts: A directory for single charts to embed elsewhere.
        format: Formats of single charts, parted by commas: html, json, png, svg.
        title: The page's title.
    """
    formats = _formats(format)
    found = collect(results)
    target = out or results / "report.html"
    write_report(found, target, results, title)
    if charts is not None:
        write_charts(found, charts, formats)
    for problem in found.problems:
        print(f"left out: {problem}", file=sys.stderr)
    print(target)


def _formats(given: str) -> list[str]:
    chosen = list(dict.fromkeys(part.strip() for part in given.split(",") if part.strip()))
    for name in chosen:
        if name not in FORMATS:
            raise unknown("format", name, FORMATS)
    if not chosen:
        raise BadInput(f"--format names no format; available: {', '.join(FORMATS)}")
    return chosen
