"""Several trainings in one TOML file: finished ones are skipped, an unfinished one goes on.

    [defaults]                  # of every run
    data = "folder:$DATA/train" # variables of the environment are filled in
    epochs = 30

    [[run]]
    name = "vit"                # each run's name is unique
    model = "vit_custom"
    from = "{out}/other.keras"  # {out} is the directory of the results
    drop = ["patch"]            # defaults that do not hold for it

Keys are the names of the flags.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tf_vitcnn.errors import BadInput, first_line, unknown
from tf_vitcnn.training import fit
from tf_vitcnn.training.recipe import Recipe, from_dict

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TABLES = ("defaults", "run", "subject", "study", "analysis")  # scripts/replicate.py reads the last three


@dataclass(frozen=True)
class Training:
    """One training of a plan; its strings still hold variables."""

    name: str
    fields: dict[str, Any]
    where: str

    def recipe(self, out: Path) -> Recipe:
        """The run's recipe, variables filled in."""
        fields = {
            key: filled(value, out, self.where) if isinstance(value, str) else value
            for key, value in self.fields.items()
        }
        try:
            return from_dict(fields, self.where)
        except BadInput as refused:
            raise BadInput(f"{self.where}: {refused}" if self.where not in str(refused) else str(refused)) from refused


def load(path: Path) -> dict[str, Any]:
    """A plan as it is written."""
    try:
        plan = tomllib.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path}: cannot be read as TOML: {first_line(error)}") from error
    for key in plan:
        if key not in TABLES:
            raise unknown(f"table in {path}", key, TABLES)
    return plan


def read(path: Path) -> list[Training]:
    """The runs of a plan, in order."""
    plan = load(path)
    defaults, runs = plan.get("defaults", {}), plan.get("run", [])
    given = isinstance(runs, list) and (runs or plan.get("subject"))
    if not given or not isinstance(defaults, dict):
        raise BadInput(f"{path}: expected a table [defaults] and at least one [[run]]")
    named = [run.get("name") for run in runs]
    for name in named:
        if not isinstance(name, str) or named.count(name) > 1:
            raise BadInput(f"{path}: each run needs a name of its own, got {name!r}")
    return [_run(defaults, run, path) for run in runs]


def _run(defaults: dict[str, Any], run: dict[str, Any], path: Path) -> Training:
    """A run with the defaults that it does not drop."""
    dropped = run.get("drop", [])
    kept = {key: value for key, value in defaults.items() if key not in dropped}
    own = {key: value for key, value in run.items() if key not in ("name", "drop")}
    return Training(run["name"], {**kept, **own}, f"{path}, run {run['name']!r}")


def filled(text: str, out: Path, where: str) -> str:
    """Text with the environment's variables and {out} filled in."""
    text = os.path.expandvars(text.replace("{out}", str(out)))
    if left := re.search(r"\$\w+|\$\{\w+\}", text):
        raise BadInput(f"{where}: {left[0]} is not set in the environment")
    return text


def train_all(
    runs: Sequence[Training], out: Path, machine: fit.Machine | None = None, only: Sequence[str] = ()
) -> Iterator[Path]:
    """Trains what is not there yet, one after the other; yields each model's path."""
    for name in only:
        if name not in [run.name for run in runs]:
            raise unknown("run of the plan", name, [run.name for run in runs])
    # every recipe is looked at before the first hour is spent
    recipes = [(run.name, run.recipe(out)) for run in runs if not only or run.name in only]
    for name, recipe in recipes:
        yield fit.train(recipe, out, name, machine)
        import keras

        keras.backend.clear_session()
