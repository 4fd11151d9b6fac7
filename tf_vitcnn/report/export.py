"""Figures and their panels as files of their own, to embed elsewhere."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tf_vitcnn.report.model import Figure, Report, compose, vegalite_version
from tf_vitcnn.report.page import alone
from tf_vitcnn.tables.files import replacing

FORMATS = ("html", "json", "png", "svg")
PNG_SCALE = 2  # whole pixels per unit: fractions leave seams between cells


def write_charts(report: Report, folder: str | os.PathLike, formats: Iterable[str]) -> list[str]:
    """Every figure in each format, and each panel of a figure that has several; returns the files' names."""
    written: list[str] = []
    for stem, figure, spec in _charts(report):
        for kind in formats:
            if kind == "html" and figure is None:
                continue
            path = Path(folder) / f"{stem}.{kind}"
            with replacing(path) as part:
                _write(part, kind, spec, report, figure)
            written.append(path.name)
    return written


def _charts(report: Report) -> Iterator[tuple[str, Figure | None, dict[str, Any]]]:
    """Names, figures (None for a single panel) and charts."""
    for figure in report.figures:
        yield figure.slug, figure, figure.spec
        for panel in figure.panels if len(figure.panels) > 1 else ():
            yield f"{figure.slug}-{panel.stem}", None, compose([[panel.spec | {"title": panel.title}]])


def _write(part: Path, kind: str, spec: dict[str, Any], report: Report, figure: Figure | None) -> None:
    import altair as alt
    import vl_convert

    version = vegalite_version(alt.SCHEMA_VERSION)
    if kind == "json":
        part.write_text(json.dumps(spec, separators=(",", ":")) + "\n")
    elif kind == "html":
        assert figure is not None
        part.write_text(alone(report, figure))
    elif kind == "png":
        part.write_bytes(vl_convert.vegalite_to_png(spec, vl_version=version, scale=PNG_SCALE))
    else:
        part.write_text(vl_convert.vegalite_to_svg(spec, vl_version=version))
