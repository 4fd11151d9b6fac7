"""The report as one HTML page that opens without a network: everything in it that came from a file is escaped."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING, Any

from tf_vitcnn.verdicts.evidence import Result
from tf_vitcnn.verdicts.verdict import Check, Verdict

if TYPE_CHECKING:
    from tf_vitcnn.report.model import Figure, Report

TITLE = "How do these networks see?"
# The page may run its own scripts (Vega compiles expressions) and fetch nothing at all.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:; "
    "font-src data:; base-uri 'none'; form-action 'none'"
)
STYLE = """
body{font:15px/1.5 Helvetica,Arial,'Liberation Sans',sans-serif;color:#222;
margin:0 auto;max-width:1180px;padding:16px 24px}
h1{font-size:26px;margin:12px 0 4px}h2{font-size:20px;margin:36px 0 8px;border-bottom:1px solid #ccc}
h3{font-size:16px;margin:28px 0 4px}p{margin:6px 0}code{font-size:13px;overflow-wrap:anywhere}
table{border-collapse:collapse;font-size:13px;width:100%}
td:nth-child(2){white-space:nowrap}
td,th{text-align:left;vertical-align:top;padding:4px 8px;border-bottom:1px solid #e4e4e4}
th{border-bottom:2px solid #999}
.scroll{overflow-x:auto}.chart{margin:10px 0;overflow-x:auto;min-height:60px}
.word{font-weight:700;white-space:nowrap}.holds{color:#00634a}.fails{color:#a84300}.untested{color:#666;font-weight:400}
.small{color:#555;font-size:12.5px}details{margin:4px 0 10px}summary{cursor:pointer;color:#555;font-size:12.5px}
.note{background:#fff4e5;border-left:4px solid #d55e00;padding:6px 10px;margin:8px 0}nav a{margin-right:10px}
ul.verdicts{list-style:none;padding:0;margin:6px 0}ul.verdicts li{margin:3px 0;font-size:13.5px}
"""
# One chart after the other, giving the browser a turn in between: the page scrolls while it draws.
SCRIPT = """
(function () {
  var figures = Array.prototype.slice.call(document.querySelectorAll(".chart"));
  window.drawn = 0; window.failed = [];
  function next() {
    var place = figures.shift();
    if (!place) { document.documentElement.setAttribute("data-drawn", String(window.drawn)); return; }
    var spec = JSON.parse(document.getElementById(place.id + "-spec").textContent);
    var options = {renderer: "canvas", actions: {export: true, source: false, compiled: false, editor: false}};
    vegaEmbed(place, spec, options).then(function () { window.drawn += 1; }, function (error) {
      window.failed.push(place.id + ": " + error); place.textContent = "This chart could not be drawn: " + error;
      console.error(error);
    }).then(function () { setTimeout(next, 0); });
  }
  setTimeout(next, 0);
})();
"""
WORDS = {"holds": "✓ holds", "fails": "✗ fails", "undecided": "≈ undecided", "untested": "– untested"}


def page(report: Report, title: str = TITLE) -> str:
    """The whole report: verdicts first, then figures in the paper's order, then what is missing."""
    counts = {word: sum(v.word == word for v in report.verdicts) for word in WORDS}
    summary = ", ".join(f"{count} {word}" for word, count in counts.items())
    body = [
        f"<h1>{escape(title)}</h1>",
        "<p>The questions of “Do Vision Transformers See Like Convolutional Neural Networks?” (Raghu et al., 2021), "
        f"asked of {_models(report)}. {len(report.results)} tables, {len(report.figures)} figures; verdicts: "
        f"{summary}.</p>",
        *(f'<p class="note">Left out: {escape(problem)}</p>' for problem in report.problems),
        '<nav class="small"><a href="#verdicts">Verdicts</a><a href="#figures">Figures</a>'
        '<a href="#missing">Missing figures</a></nav>',
        '<h2 id="verdicts">Verdicts</h2>',
        '<p class="small">A claim of the paper holds or fails by its number against its threshold. The margin is by '
        "how much; its interval (95 %) says how far other images would move it. Where zero is inside, or no error is "
        "known, the claim is undecided; it is untested for want of tables that agree. Random weights: the same claim "
        "on the same architectures before training, which is what the architecture gives for free.</p>",
        verdict_table(report.verdicts),
        '<h2 id="figures">Figures</h2>',
        *(_figure(figure, i, report.verdicts_of(figure)) for i, figure in enumerate(report.figures)),
        '<h2 id="missing">Missing figures</h2>',
        _missing(report),
    ]
    return _document(title, body, bool(report.figures))


def alone(figure: Figure) -> str:
    """One figure as a page of its own."""
    return _document(figure.drawing.title, [_figure(figure, 0, [])], True)


def verdict_table(verdicts: Iterable[Verdict]) -> str:
    """One row per verdict, in the order of the claims."""
    head = "".join(
        f"<th>{name}</th>" for name in ("Claim", "Place", "Verdict", "Measured", "Random weights", "Models and tables")
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(map(_row, verdicts))}</table></div>'


def number(check: Check) -> str:
    """`0.61 > 0.25 (margin 0.32 to 0.4)`, with what it is a number of."""
    error = f" (margin {check.low:.2g} to {check.high:.2g})" if check.low == check.low else ""
    bound = f"between {check.threshold:.3g} and {check.upper:.3g}"
    if check.relation != "in":
        bound = f"{check.relation} {check.threshold:.3g}"
    sign = "" if check.margin > 0 else "not "
    return f"{check.what + ': ' if check.what else ''}{check.value:.3g} {sign}{bound}{error}"


def _row(verdict: Verdict) -> str:
    claim = verdict.claim
    measured = "<br>".join(escape(number(check)) for check in verdict.checks) or escape(verdict.note)
    random = verdict.baseline
    baseline = "<br>".join(escape(number(check)) for check in random.checks) + f"<br>{random.word}" if random else ""
    remark = f'<br><span class="small">{escape(claim.remark)}</span>' if claim.remark else ""
    tables = "".join(f"<br><code>{escape(table)}</code>" for table in verdict.tables)
    return (
        f"<tr><td><b>{escape(claim.id)}</b><br>{escape(claim.statement)}{remark}</td><td>{escape(claim.place)}</td>"
        f'<td class="word {verdict.word}">{WORDS[verdict.word]}</td><td>{measured}</td><td>{baseline}</td>'
        f'<td class="small">{escape(", ".join(verdict.subjects))}{tables}</td></tr>'
    )


def _figure(figure: Figure, index: int, verdicts: Iterable[Verdict]) -> str:
    lines = "".join(
        f'<li><span class="word {v.word}">{WORDS[v.word]}</span> {escape(v.claim.statement)} '
        f'<span class="small">({escape("; ".join(map(number, v.checks)))}; {escape(", ".join(v.subjects))})</span></li>'
        for v in verdicts
    )
    # `</script>` and `<!--` inside a script element would end or change it
    spec = json.dumps(figure.spec, separators=(",", ":"), ensure_ascii=True).replace("<", "\\u003c")
    models = ", ".join(dict.fromkeys(s["name"] for r in figure.results for s in r.sidecar["subjects"]))
    return (
        f'<section id="{escape(figure.slug)}"><h3>{escape(figure.label)}. {escape(figure.drawing.title)}: '
        f"{escape(models)}</h3><p>{escape(figure.drawing.caption)}</p>"
        f'<div class="chart" id="chart{index}"></div>'
        f'<script type="application/json" id="chart{index}-spec">{spec}</script>'
        f'<ul class="verdicts">{lines}</ul>{"".join(map(_provenance, figure.results))}</section>'
    )


def _provenance(result: Result) -> str:
    sidecar = result.sidecar
    rows: list[tuple[str, Any]] = []
    for subject in sidecar["subjects"]:
        facts = {k: v for k, v in subject.items() if k not in ("name", "taps") and v not in (None, [], {})}
        rows.append((f"model {subject['name']}", facts))
    rows += [(part, sidecar.get(part)) for part in ("parameters", "data", "notes", "environment") if sidecar.get(part)]
    body = "".join(f"<tr><td>{escape(str(k))}</td><td>{escape(_short(v))}</td></tr>" for k, v in rows)
    return f"<details><summary>How <code>{escape(result.path)}</code> was made</summary><table>{body}</table></details>"


def _missing(report: Report) -> str:
    if not report.missing:
        return "<p>None: every figure has its table.</p>"
    rows = "".join(
        f"<li>Fig. {escape(', '.join(drawing.figures) or '–')}: {escape(drawing.title)} "
        f'<span class="small">(no table of <code>{escape(name)}</code> for it)</span></li>'
        for name, drawing in report.missing
    )
    return f"<ul>{rows}</ul>"


def _models(report: Report) -> str:
    names = sorted({s["name"] for r in report.results for s in r.sidecar["subjects"]})
    return escape(", ".join(names)) or "no model"


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{k} {_short(v)}" for k, v in value.items())
    text = ", ".join(map(_short, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 300 else text[:299] + "…"


def _document(title: str, body: Iterable[str], drawn: bool) -> str:
    scripts = f"<script>{_library()}</script><script>{SCRIPT}</script>" if drawn else ""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + f"\n{scripts}</body></html>\n"
    )


@functools.cache
def _library() -> str:
    """Vega, Vega-Lite and Vega-Embed, as the converter ships them."""
    import altair as alt
    import vl_convert

    from tf_vitcnn.report.model import vegalite_version

    version = vegalite_version(alt.SCHEMA_VERSION)
    text: str = vl_convert.javascript_bundle(None, vl_version=version)  # type: ignore[arg-type]  # None: its default
    return text.replace("</script", "<\\/script")
