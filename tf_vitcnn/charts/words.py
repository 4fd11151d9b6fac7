"""What charts say of a layer and its number: names, never positions."""

from __future__ import annotations

import json

import altair as alt

# `s2.1 act2` of stage2/unit01/act2: short enough for two names on one line
_BRIEF = "replace({}, regexp('^stage(\\\\d+)/unit0?(\\\\d+)/'), 's$1.$2 ')"


def brief(field: str) -> str:
    """The expression of a layer's short name."""
    return _BRIEF.format(_of(field))


# the short name in an axis' or a header's label; the middle of a long one is left out
_MIDDLE = "regexp('^([^\\\\n]{8})[^\\\\n]{3,}([^\\\\n]{11})(?=\\\\n|$)')"
BRIEF_LABEL = f"replace({_BRIEF.format('datum.value')}, {_MIDDLE}, '$1…$2')"


def number(field: str, digits: str = ".3f", error: str | None = None) -> str:
    """The expression of a value with its standard error where there is one."""
    said = f"({_of(field)} == null ? 'no value' : format({_of(field)}, '{digits}'))"
    return said + (f" + ({_of(error)} > 0 ? ' ± ' + format({_of(error)}, '.2g') : '')" if error else "")


def tip(*parts: str) -> alt.Tooltip | alt.TooltipValue:
    """One line on hover: expressions joined."""
    return alt.value(alt.ExprRef(" + ".join(parts)))  # type: ignore[return-value]


def text(words: str) -> str:
    """A literal inside an expression."""
    return json.dumps(words)


def line_tip(model: str, layer: str, value: str, low: str | None, high: str | None) -> alt.Tooltip | alt.TooltipValue:
    """`vit block03/resid/post: 0.61 (0.58 to 0.64)`."""
    said = [_of(model), text(" "), brief(layer), text(": "), number(value, ".3g")]
    if low and high:
        span = f"' (' + format({_of(low)}, '.3g') + ' to ' + format({_of(high)}, '.3g') + ')'"
        said.append(f"(isValid({_of(low)}) ? {span} : '')")
    return tip(*said)


def _of(field: str) -> str:
    return f"datum[{json.dumps(field)}]"
