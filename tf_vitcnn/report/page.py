"""The report as one HTML page that opens without a network: templates escape everything that came from a file."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import zlib
from html import escape
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from tf_vitcnn.charts import theme
from tf_vitcnn.report import findings as found
from tf_vitcnn.report import made, networks
from tf_vitcnn.report.matrix import matrix
from tf_vitcnn.report.model import Figure, Report, parts, vegalite_version
from tf_vitcnn.verdicts.seeds import Summary, over_seeds

TITLE = "How do these networks see?"
SCRIPTS = ("draw.js", "hover.js", "controls.js", "save.js", "start.js")
HERE = resources.files("tf_vitcnn.report")


def page(report: Report, title: str = TITLE) -> str:
    """The whole report; of a single table its figure, caption and findings alone."""
    single = len(report.results) == 1 and not report.problems
    return _render(report, report.figures, "single" if single else "page", title)


def alone(report: Report, figure: Figure) -> str:
    """One figure as a page of its own."""
    return _render(report, [figure], "single", figure.title, told=False)


def framed(report: Report) -> str:
    """The page inside another document, such as a notebook."""
    return f'<iframe srcdoc="{escape(page(report))}" title="{TITLE}" width="100%" height="900"></iframe>'


def _render(report: Report, figures: list[Figure], kind: str, title: str, told: bool = True) -> str:
    if kind == "single" and told and figures:
        title = figures[0].title
    with networks.looks(report.networks):
        shown = _environment().get_template(f"{kind}.html")
        style, script = _style(), _script()
        drawn = bool(figures)
        return shown.render(
            **{"report": report, "title": title, "kind": kind, "drawn": drawn, "style": Markup(style)},
            library=Markup(_library()) if drawn else "",
            script=Markup(script),
            policy=_policy(style, [_library(), script] if drawn else []),
            shared=_json(_shared(report)),
            specs=[(figure.slug, _packed(figure)) for figure in figures],
            main=[f for f in figures if not f.variant or kind == "single"],
            appendix=[f for f in figures if f.variant and kind != "single"],
            findings=found.findings(report, (False,) if kind == "page" else (False, True)) if told else {},
            again=found.findings(report, (True,)) if kind == "page" else {},
            untested=[v for v in report.verdicts if not v.checks],
            matrix=matrix(report),
            trainings=_trainings(report),
            rows_of=lambda figure: _by_claim(report, figure),
            marks_of=lambda figure: _marks(report, figure),
        )


def _trainings(report: Report) -> list[tuple[Summary, list[found.Row]]]:
    """What several trainings of one recipe say, each with its row."""
    lines = (line for line in over_seeds(report.verdicts) if isinstance(line, Summary))
    return [(line, [found.row_of(verdict) for verdict in line.verdicts]) for line in lines]


def _marks(report: Report, figure: Figure) -> list[tuple[str, int]]:
    """How many of a figure's verdicts are of each group."""
    groups = [found.row_of(v).group for v in report.verdicts_of(figure)]
    return [(group, groups.count(group)) for group in found.GROUPS if group in groups]


def _by_claim(report: Report, figure: Figure) -> dict[str, list[found.Row]]:
    """A figure's verdicts, those on one claim together."""
    told: dict[str, list[found.Row]] = {}
    for verdict in report.verdicts_of(figure):
        told.setdefault(verdict.claim.id, []).append(found.row_of(verdict))
    return told


def _shared(report: Report) -> dict[str, Any]:
    """What all charts have in common: the theme, its dark side, and who is who."""
    return {
        "config": theme.tf_vitcnn()["config"],
        "dark": theme.on_dark(),
        "extent": theme.DARK_EXTENT,
        "networks": [{"name": n.name, "random": n.random, "twin": n.twin} for n in report.networks],
    }


def _spec(figure: Figure) -> dict[str, Any]:
    """The charts of a figure, their theme left out."""
    top, rows = parts([[p.spec for p in row] for row in figure.rows])
    titles = [[p.title for p in row] for row in figure.rows]
    return {"top": {k: v for k, v in top.items() if k != "config"}, "rows": rows, "titles": titles}


def _packed(figure: Figure) -> Markup:
    """A figure's charts as a deflated text, a third as long, which the page opens when one of them comes into view."""
    text = json.dumps(_spec(figure), separators=(",", ":"))
    return Markup(base64.b64encode(zlib.compress(text.encode(), 9)).decode())


def _json(value: Any) -> Markup:
    """JSON inside a script element, which `</script>` and `<!--` would end or change."""
    return Markup(json.dumps(value, separators=(",", ":"), ensure_ascii=True).replace("<", "\\u003c"))


def _policy(style: str, scripts: list[str]) -> str:
    """The page may run its own two scripts (Vega compiles expressions), and fetch nothing at all."""
    allowed = " ".join(["'unsafe-eval'", *map(_hash, scripts)])
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_hash(style)}; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tf_vitcnn.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        {"groups": found.GROUPS, "marks": found.MARKS, "spoken": found.SPOKEN, "look": theme.look_of},
        made=made.made,
        in_one_line=made.in_one_line,
        network_facts=made.network_facts,
    )
    return environment


@functools.cache
def _style() -> str:
    return (HERE / "assets" / "page.css").read_text(encoding="utf-8")


@functools.cache
def _script() -> str:
    body = "\n".join((HERE / "assets" / name).read_text(encoding="utf-8") for name in SCRIPTS)
    return f'(function () {{\n"use strict";\n{body}\n}})();\n'


@functools.cache
def _library() -> str:
    """Vega and Vega-Lite, as the converter ships them."""
    import altair as alt
    import vl_convert

    version = vegalite_version(alt.SCHEMA_VERSION)
    text: str = vl_convert.javascript_bundle(None, vl_version=version)  # type: ignore[arg-type]  # None: its default
    return text.replace("</script", "<\\/script")
