"""Tables -> verdicts, charts and one offline page. Reads tables only: no TensorFlow, no network.

The same tables give the same bytes. A file that cannot be used is named in one line and the rest is built.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from etils import epath

from tf_vitcnn import analyses, charts
from tf_vitcnn.analyses import read_table
from tf_vitcnn.analyses.base import drawings_of
from tf_vitcnn.errors import BadInput, first_line
from tf_vitcnn.report.model import Figure, Report, vegalite_version
from tf_vitcnn.report.page import TITLE, alone, page
from tf_vitcnn.tables.files import discard_parts, replacing, write_text
from tf_vitcnn.tables.read import read_sidecar
from tf_vitcnn.verdicts import record
from tf_vitcnn.verdicts.claim import Claim, judge
from tf_vitcnn.verdicts.evidence import Result, parts
from tf_vitcnn.verdicts.verdict import order, to_csv

if TYPE_CHECKING:
    from tf_vitcnn.charts import Drawing

FORMATS = ("html", "json", "png", "svg")
CLAIMS = "claims.csv"
APART = ("training_log", "scale", "cka_images")  # tables that no figure of the paper shows
PNG_SCALE = 2  # whole pixels per unit: fractions leave seams between cells


def collect(root: str | os.PathLike) -> Report:
    """Everything that the tables under `root` say."""
    folder = epath.Path(root)
    if not folder.is_dir():
        raise BadInput(f"{root}: no such directory; expected the results directory that scripts/analyze.py wrote")
    results, problems = gather(folder)
    if not results and not problems:
        raise BadInput(f"{root}: no tables here; expected ANALYSIS/NAME.csv with NAME.json beside each")
    names = sorted({subject["name"] for result in results for subject in result.sidecar["subjects"]})
    with charts.theme.models(names):
        figures, missing, failed = draw(results)
    return Report(results, judge(results, all_claims()), figures, missing, problems + failed)


def gather(root: epath.Path) -> tuple[list[Result], list[str]]:
    """All usable tables in order of their paths, and one line for each file that is not usable."""
    results: list[Result] = []
    problems: list[str] = []
    names: dict[str, tuple[str, Any]] = {}
    # ANALYSIS/NAME.csv, of one study or of several side by side
    for csv in sorted([*root.glob("*/*.csv"), *root.glob("*/*/*.csv")], key=str):
        path = csv.relative_to(root).as_posix()
        if csv.name == CLAIMS or csv.name.startswith("."):
            continue
        try:
            sidecar = read_sidecar(csv)
            if sidecar["analysis"] in APART:
                continue
            table = read_table(csv)
            record.check(sidecar)
            found = parts(Result.of(table, path))
            for part in found:
                record.speaks_of(part.sidecar, part.table)
                _same_networks(part, names)
        except (BadInput, OSError) as error:
            problems.append(f"{path}: {first_line(error).replace(f'{csv}: ', '').replace(f'{root}/', '')}")
            continue
        results += found
    return results, problems


def draw(results: Sequence[Result]) -> tuple[list[Figure], list[tuple[str, Drawing]], list[str]]:
    """Figures in the paper's order, drawings without a table, and one line for each chart that failed."""
    figures: list[Figure] = []
    missing: list[tuple[str, Drawing]] = []
    problems: list[str] = []
    for name, drawing in _all_drawings():
        groups = list(_groups(drawing, [r for r in results if r.sidecar["analysis"] == name]))
        if not groups and drawing.figures:  # nobody misses a figure that the paper does not have
            missing.append((name, drawing))
        for group in groups:
            table = group[0].table if len(group) == 1 else pd.concat([r.table for r in group], ignore_index=True)
            try:
                spec = drawing.draw(table).to_dict(validate=False)
            except Exception as error:  # a chart that one odd table breaks must not take the report with it
                paths = ", ".join(r.path for r in group)
                problems.append(f"{paths}: {drawing.title!r} cannot be drawn: {first_line(error)}")
                continue
            figures.append(Figure(drawing, name, tuple(group), spec))
    return figures, missing, problems


def write_report(report: Report, target: Path, root: Path, title: str = TITLE) -> None:
    """The page, and beside the tables its verdicts: both whole or not at all."""
    discard_parts(target, root / CLAIMS)
    write_text(root / CLAIMS, to_csv(report.verdicts))
    write_text(target, page(report, title))


def write_charts(report: Report, folder: str | os.PathLike, formats: Iterable[str]) -> list[str]:
    """Every figure as a file of its own in each format; returns their names."""
    import json

    import altair as alt
    import vl_convert

    target = Path(folder)
    version = vegalite_version(alt.SCHEMA_VERSION)
    written: list[str] = []
    for figure in report.figures:
        slug = figure.slug
        while f"{slug}.{next(iter(formats))}" in written:
            slug += "-b"  # the same table drawn twice under one number
        for kind in formats:
            path = target / f"{slug}.{kind}"
            with replacing(path) as part:
                if kind == "json":
                    part.write_text(json.dumps(figure.spec, separators=(",", ":")) + "\n")
                elif kind == "html":
                    part.write_text(alone(figure))
                elif kind == "png":
                    part.write_bytes(vl_convert.vegalite_to_png(figure.spec, vl_version=version, scale=PNG_SCALE))
                else:
                    part.write_text(vl_convert.vegalite_to_svg(figure.spec, vl_version=version))
            written.append(path.name)
    return written


def _all_drawings() -> list[tuple[str, Drawing]]:
    found = [(name, d) for name in analyses.names() for d in drawings_of(analyses.find(name))]
    return sorted(found, key=lambda item: order(item[1].figures[0] if item[1].figures else "elsewhere"))


def _groups(drawing: Drawing, results: Sequence[Result]) -> Iterable[list[Result]]:
    """Tables of one chart: each alone, or all of the same data together."""
    fitting = [result for result in results if drawing.fits(result.sidecar)]
    if not drawing.together:
        yield from ([result] for result in fitting)
        return
    shared: dict[str, list[Result]] = {}
    for result in fitting:
        shared.setdefault(str(result.sidecar["data"].get("spec")), []).append(result)
    for group in shared.values():
        # two settings of one analysis on one model cannot share a chart: their keys are the same
        yield from _without_twins(group)


def _without_twins(group: Sequence[Result]) -> Iterable[list[Result]]:
    charts_: list[dict[tuple, Result]] = []
    for result in group:
        key = tuple(subject["name"] for subject in result.sidecar["subjects"])
        place = next((chart for chart in charts_ if key not in chart), None)
        if place is None:
            charts_.append(place := {})
        place[key] = result
    for chart in charts_:
        yield list(chart.values())


def _same_networks(result: Result, names: dict[str, tuple[str, Any]]) -> None:
    """Refuses a table whose model's name already stands for other weights."""
    for subject in result.sidecar["subjects"]:
        weights = subject.get("weights_sha256")
        first, known = names.setdefault(subject["name"], (result.path, weights))
        if known != weights:
            raise BadInput(
                f"{subject['name']!r} names other weights here than in {first}; give one of them another --name"
            )


def all_claims() -> list[Claim]:
    """Every claim of every analysis, in the paper's order."""
    return sorted((c for name in analyses.names() for c in analyses.find(name).claims), key=lambda c: order(c.place))
