"""Trains the models that the paper trained itself: DIR/NAME.keras with its card and log beside it.

One run from flags, or several from a plan (`--plan plan.toml`). The same command goes on where a killed one stopped,
and leaves finished runs as they are. The path of each model is printed when it is there.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import tyro

from tf_vitcnn.analyses import read_table
from tf_vitcnn.commands.edge import parse
from tf_vitcnn.errors import BadInput
from tf_vitcnn.tables.files import discard_parts, replacing
from tf_vitcnn.training import fit, log, plan
from tf_vitcnn.training.recipe import Recipe


@dataclass(frozen=True)
class Flags(Recipe):
    """A recipe's flags, and those that change no result."""

    out: Path | None = None
    """directory of the model, its card and its log"""
    name: str | None = None
    """name of these files; default: the model's"""
    plan: Path | None = None
    """a TOML file with several runs, instead of --model and --data"""
    only: tuple[str, ...] = ()
    """of a plan, only the runs with these names"""
    strategy: str = "cpu"
    """cpu, gpu, mirrored, tpu or tpu:NAME"""
    data_dir: str | None = None
    """where tensorflow_datasets keeps its prepared sets"""
    memory_gb: float = 4.0
    """decoded images are kept in memory up to this size"""
    save_seconds: float = 60.0
    """pause between saved states of an unfinished run"""
    tensorboard: bool = False
    """write event files for TensorBoard too"""
    jit: Annotated[Literal["auto", "on", "off"], tyro.conf.arg(help="XLA compilation of the step")] = "auto"

    def __post_init__(self) -> None:
        """A plan's runs have their own recipes."""
        if self.out is None:
            raise BadInput("--out must be given: the directory of the model, its card and its log")
        if self.plan is None:
            super().__post_init__()


def main(args: list[str], prog: str) -> None:
    """Trains what is not there yet and prints where it is."""
    flags = parse(Flags, args, prog, __doc__)
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
    print(finished(fit.train(recipe, flags.out, flags.name, machine)))


def finished(path: Path) -> Path:
    """The trained model's path, its learning curve drawn beside it."""
    curve = path.with_suffix(".log.svg")
    table = path.with_suffix(".log.csv")
    if not curve.exists() and table.exists():
        discard_parts(curve)
        with replacing(curve) as part:
            log.chart(read_table(table)).save(part)
    return path
