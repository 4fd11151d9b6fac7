"""Figures from tables: which belong together, in which order they stand, what is a variant of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from tf_vitcnn import analyses
from tf_vitcnn.analyses.base import drawings_of
from tf_vitcnn.errors import first_line
from tf_vitcnn.report.model import Figure, Panel, names_of
from tf_vitcnn.report.networks import Network
from tf_vitcnn.verdicts.evidence import Result
from tf_vitcnn.verdicts.verdict import order

if TYPE_CHECKING:
    from tf_vitcnn.charts import Drawing

Group = tuple[str, str, list[Result]]  # variant, data, tables of one figure


def draw(
    results: Sequence[Result], networks: Sequence[Network]
) -> tuple[list[Figure], list[tuple[str, Drawing]], list[str]]:
    """Figures in the paper's order, variants last; drawings without a table; one line for each chart that failed."""
    figures: list[Figure] = []
    missing: list[tuple[str, Drawing]] = []
    problems: list[str] = []
    rank = {network.name: i for i, network in enumerate(networks)}
    twin = {network.name: network.twin for network in networks}
    pictured = with_photographs(results)
    for name, drawing in _all_drawings():
        fitting = [r for r in pictured if r.sidecar["analysis"] == (drawing.of or name) and drawing.fits(r.sidecar)]
        if not fitting and drawing.figures:  # nobody misses a figure that the paper does not have
            missing.append((name, drawing))
        several = len({_data(r) for r in fitting}) > 1
        for variant, data, group in _groups(sorted(fitting, key=lambda r: _place(r, rank))):
            panels, failed = _panels(drawing, group)
            panels = [replace(p, twins=tuple(twin.get(name) for name in p.models)) for p in panels]
            problems += failed
            if panels:
                figures.append(Figure(drawing, name, tuple(panels), variant, data if several else ""))
    return sorted(figures, key=lambda figure: bool(figure.variant)), missing, problems


def _all_drawings() -> list[tuple[str, Drawing]]:
    found = [(name, d) for name in analyses.names() for d in drawings_of(analyses.find(name))]
    return sorted(found, key=lambda item: order(item[1].figures[0] if item[1].figures else "elsewhere"))


def _groups(results: Sequence[Result]) -> Iterable[Group]:
    """Tables of one figure: of the same images; a second run on the same networks is a variant of the first."""
    plain: dict[str, list[Result]] = {}
    variants: dict[tuple[str, str], list[Result]] = {}
    for result in sorted(results, key=_tag):  # the sort is stable: untagged ones first
        data, tag = _data(result), _tag(result)
        shown = {names_of([r]) for r in plain.get(data, ())}
        if names_of([result]) in shown:
            variants.setdefault((tag or result.path, data), []).append(result)
        else:
            plain.setdefault(data, []).append(result)
    rank = {id(result): i for i, result in enumerate(results)}
    for data, group in plain.items():
        yield "", data, sorted(group, key=lambda r: rank[id(r)])
    for (tag, data), group in variants.items():
        yield tag, data, group


def _panels(drawing: Drawing, group: Sequence[Result]) -> tuple[list[Panel], list[str]]:
    """The panels of one figure; a table that cannot be drawn does not take the others with it."""
    if drawing.together:
        table = pd.concat([r.table for r in group], ignore_index=True) if len(group) > 1 else group[0].table
        return _drawn(drawing, [table], [tuple(group)])
    panels, problems = _drawn(drawing, [_pictured(r) for r in group], [(r,) for r in group])
    if problems and len(group) > 1:
        each = [_panels(drawing, [result]) for result in group]
        return [p for found, _ in each for p in found], [line for _, lines in each for line in lines]
    return panels, problems


def with_photographs(results: Sequence[Result]) -> list[Result]:
    """The tables, with photographs of such images where an analysis of single images has put some beside its own."""
    lent: dict[tuple, Mapping[str, bytes]] = {}
    for result in results:
        if result.pictures and result.sidecar["analysis"] in analyses.names():  # what stands beside has its own few
            lent.setdefault(_images(result), result.pictures)
    return [r if r.pictures or _images(r) not in lent else replace(r, pictures=lent[_images(r)]) for r in results]


def _images(result: Result) -> tuple:
    """What a network sees of which images."""
    return _data(result), tuple(result.subject.get("image_size") or ())


def _pictured(result: Result) -> pd.DataFrame:
    """The table with the pictures that a chart may show."""
    if not result.pictures:
        return result.table
    table = result.table.copy(deep=False)
    table.attrs["pictures"] = result.pictures
    return table


def _drawn(
    drawing: Drawing, tables: Sequence[pd.DataFrame], groups: Sequence[tuple[Result, ...]]
) -> tuple[list[Panel], list[str]]:
    try:
        drawn = drawing.panels(tables)
        specs = [[(part.title, part.chart.to_dict(validate=False)) for part in parts] for parts in drawn]
    except Exception as error:  # a chart that one odd table breaks must not take the report with it
        paths = ", ".join(r.path for group in groups for r in group)
        return [], [f"{paths}: {drawing.title!r} cannot be drawn: {first_line(error)}"]
    return [
        _panel(title, spec, group, drawing.together)
        for parts, group in zip(specs, groups, strict=True)
        for title, spec in parts
    ], []


def _panel(title: str, spec: dict, group: tuple[Result, ...], together: bool) -> Panel:
    models = names_of(group)
    subjects = [s for r in group for s in r.sidecar["subjects"]]
    random = not together and all(s.get("random") for s in subjects)
    if not together:
        names = " x ".join(models)
        title = names if title in ("", *models) else f"{names}, {title}"
    return Panel(title, models, group, spec, random, together)


def _place(result: Result, rank: dict[str, int]) -> tuple:
    return tuple(rank[name] for name in names_of([result]))


def _data(result: Result) -> str:
    return str(result.sidecar["data"].get("spec"))


def _tag(result: Result) -> str:
    return str(result.sidecar.get("tag") or "")
