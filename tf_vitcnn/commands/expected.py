"""How long the steps of a plan took, or would take at least: what `replicate --dry-run` prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tf_vitcnn.commands import analyze
from tf_vitcnn.commands.flags import Page, parse
from tf_vitcnn.devices.start import require_tensorflow, start_tensorflow
from tf_vitcnn.errors import BadInput, first_line
from tf_vitcnn.tables.read import read_sidecar
from tf_vitcnn.training import card, fit
from tf_vitcnn.training.plan import Training


def told(trainings: Sequence[Training], work: Sequence[list[str]], out: Path) -> Iterator[str]:
    """A line for every training and analysis, then the sums."""
    done, left, unknown = 0.0, 0.0, 0
    for line, took, needs in (*_trained(trainings, out / "models"), *map(_analysed, work)):
        yield line
        done, left, unknown = done + (took or 0.0), left + (needs or 0.0), unknown + (took is None and needs is None)
    yield f"done: {done:.0f} min; left: {left:.0f} min at least" + (
        f", and {unknown} steps whose networks are not there yet" if unknown else ""
    )


Step = tuple[str, float | None, float | None]  # in words, minutes that it took, minutes that it needs


def _trained(trainings: Sequence[Training], folder: Path) -> Iterator[Step]:
    for each in trainings:
        place = fit.Place(folder, each.name)
        if fit.finished(place, each.recipe(folder)):
            took = float(card.read(place.card).get("seconds") or 0) / 60
            yield f"training {each.name}: done in {took:.1f} min", took, None
            continue
        try:
            needs = fit.expected(each.recipe(folder)) / 60
        except BadInput as early:  # what it starts from is to be trained first
            yield f"training {each.name}: not known yet ({first_line(early)})", None, None
            continue
        yield f"training {each.name}: {needs:.1f} min", None, needs


def _analysed(arguments: list[str]) -> Step:
    """What one command of a plan took or needs."""
    kinds, rest = analyze.named(arguments, "tf-vitcnn analyze")
    *chosen, flags = parse([*kinds, analyze.Flags], rest, Page("tf-vitcnn analyze", "", ""))
    subjects = [flags.name, flags.against_name] if flags.against else [flags.name]
    what = f"{arguments[0]} {'--'.join(subjects)}" + (f".{flags.tag}" if flags.tag else "")
    tables = [analyze.target(flags, analysis.name, "--".join(subjects)) for analysis in chosen]
    there = [path.parent / f"{path.name}.csv" for path in tables]
    if all(path.exists() for path in there):
        # analyses that were named together shared their time
        took = max(read_sidecar(path)["environment"].get("seconds", 0.0) for path in there) / 60
        return f"{what}: done in {took:.1f} min", took, None
    require_tensorflow()
    start_tensorflow()
    try:
        needs = _minutes(tuple(chosen), flags)
    except BadInput as early:
        return f"{what}: not known yet ({first_line(early)})", None, None
    return f"{what}: {needs:.1f} min", None, needs


def _minutes(chosen: tuple, flags: analyze.Flags) -> float:
    from tf_vitcnn.engine.forecast import passes

    analyze.check(flags)
    with analyze.session(chosen, flags) as session:
        return sum(each.minutes for each in passes(session))
