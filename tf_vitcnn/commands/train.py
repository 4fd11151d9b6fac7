"""The models that the paper trained itself, one or a plan of several.

Writes OUT/NAME.keras with its card and log beside it, and prints the path. The same command goes on where a killed one
stopped, and leaves finished runs as they are. A plan (--plan FILE.toml) lists several runs.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from tf_vitcnn.analyses import read_table
from tf_vitcnn.commands.edge import say
from tf_vitcnn.commands.flags import Page, parse_one
from tf_vitcnn.errors import BadInput
from tf_vitcnn.tables.files import discard_parts, replacing
from tf_vitcnn.training import fit, log, plan
from tf_vitcnn.training.recipe import Recipe

EXAMPLE = "--model vit_custom --data folder:photos/train --val folder:photos/val --out models --name mine"


@dataclass(frozen=True)
class Where:
    """Where it runs, which changes no result."""

    strategy: str = "cpu"
    """cpu, gpu, mirrored, tpu or tpu:NAME"""
    data_dir: str | None = None
    """where tensorflow_datasets keeps its prepared sets"""
    memory_gb: float = 4.0
    """decoded images are kept in memory up to this size"""
    jit: Literal["auto", "on", "off"] = "auto"
    """XLA compilation of the step"""


@dataclass(frozen=True)
class Written:
    """What is written."""

    out: Path | None = None
    """directory of the model, its card and its log"""
    name: str | None = None
    """name of these files; the model's unless told otherwise"""
    plan: Path | None = None
    """a TOML file with several runs, instead of --model and --data"""
    only: tuple[str, ...] = ()
    """of a plan, only the runs with these names"""
    save_seconds: float = 60.0
    """pause between saved states of an unfinished run"""
    tensorboard: bool = False
    """write event files for TensorBoard too"""


@dataclass(frozen=True)
class Flags(Written, Where, Recipe):
    """A recipe's flags, and those that change no result."""

    def __post_init__(self) -> None:
        """A plan's runs have their own recipes."""
        if self.out is None:
            raise BadInput("--out must be given: the directory of the model, its card and its log")
        if self.plan is None:
            Recipe.__post_init__(self)


def main(args: list[str], prog: str) -> None:
    """Trains what is not there yet and prints where it is."""
    flags = parse_one(Flags, args, Page(prog, __doc__ or "", f"{prog} {EXAMPLE}"))
    machine = fit.Machine(
        strategy=flags.strategy,
        data_dir=flags.data_dir,
        memory=flags.memory_gb * 1e9,
        save_seconds=flags.save_seconds,
        tensorboard=flags.tensorboard,
        jit={"auto": None, "on": True, "off": False}[flags.jit],
    )
    assert flags.out is not None  # Flags sees to it
    if flags.plan is not None:
        for path in plan.train_all(plan.read(flags.plan), flags.out, machine, flags.only):
            print(finished(path))
        return
    recipe = Recipe(**{field.name: getattr(flags, field.name) for field in fields(Recipe)})
    path = finished(fit.train(recipe, flags.out, flags.name, machine))
    say(f"next: tf-vitcnn analyze cka --model {path} --data {flags.val or flags.data}")
    print(path)


def finished(path: Path) -> Path:
    """The trained model's path, its learning curve drawn beside it."""
    curve = path.with_suffix(".log.svg")
    table = path.with_suffix(".log.csv")
    if not curve.exists() and table.exists():
        discard_parts(curve)
        with replacing(curve) as part:
            log.chart(read_table(table)).save(str(part))
    return path
