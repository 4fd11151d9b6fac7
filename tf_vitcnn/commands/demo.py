"""Every table and figure, on small networks trained here or on yours.

Trains three small networks on digits, runs every analysis on them, and builds the report: offline, in minutes. With
--model and --data (and --against) the same is done for checkpoints of yours, with what fits of the paper's settings.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from tf_vitcnn import analyses
from tf_vitcnn.commands import analyze
from tf_vitcnn.commands.edge import say
from tf_vitcnn.commands.flags import Page, parse_one
from tf_vitcnn.commands.networks import Networks, import_all, said
from tf_vitcnn.errors import BadInput, TooLarge
from tf_vitcnn.report.collect import collect, write_report
from tf_vitcnn.subject import Subject
from tf_vitcnn.training import fit
from tf_vitcnn.training.recipe import Recipe

SIDE = 32  # pixels: 8 x 8 tokens of 4 pixels, and room for a ResNet's strides
VIT = {"model": "vit_custom", "image_size": SIDE, "patch": 4, "width": 64, "depth": 4, "heads": 8}
BIT = {"model": "bit_custom", "image_size": SIDE, "width": 32, "units": (1, 1, 1, 1)}
MODELS: dict[str, dict[str, Any]] = {
    "vit": {**VIT, "pool": "cls", "epochs": 8},
    "vit_gap": {**VIT, "pool": "gap", "epochs": 8, "rate": 0.001},
    "resnet": {**BIT, "epochs": 5},
    # the same architectures before training: what they give for free stands beside the verdicts
    "vit_random": {**VIT, "pool": "cls", "epochs": 0},
    "resnet_random": {**BIT, "epochs": 0},
}
PAIRS = (("vit", "resnet"), ("vit_random", "resnet_random"))
TRAIN, TEST = "digits:train", "digits:test"
# What differs from the paper's settings, because digits has 360 test images.
SMALL: dict[str, dict[str, Any]] = {
    "cka": {"images": 320, "batch": 80, "repeats": 4},
    "head_subsets": {"images": 320, "batch": 80},
    "localization": {"images": 320, "batch": 320},
    "similarity": {"images": 320, "batch": 80, "repeats": 4},
    "receptive_field": {"images": 8, "channels": 16, "cell": 2},
    "probe": {"data": TRAIN, "test": TEST, "tokens": "each"},
}


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What is looked at, instead of networks trained here."""

    model: str | None = None
    """a checkpoint, as analyze takes it"""
    against: str | None = None
    """another to compare it with"""
    data: str | None = None
    """images, e.g. imagenet2012:validation or folder:photos"""
    probe_data: str | None = None
    """labelled images that train the linear probes; without them the probes are left out"""
    data_dir: str | None = None
    """where tensorflow_datasets keeps its prepared sets"""


@dataclass(frozen=True, kw_only=True)
class Flags(Networks, Looked):
    """How, and where to."""

    out: Path = Path("demo")
    """directory of models, tables and report.html"""
    strategy: str = "cpu"
    """cpu, gpu, mirrored or tpu"""
    quick: bool = False
    """train for one epoch only: to see that everything runs, not what it says"""

    def __post_init__(self) -> None:
        """Refuses half a choice."""
        if (self.model is None) != (self.data is None) or (self.against and not self.model):
            raise BadInput(
                "--model and --data go together (and --against with them); without them digits are trained on"
            )


@dataclass(frozen=True)
class Table:
    """One table to make."""

    analysis: str
    model: str
    against: str | None
    flags: dict[str, Any] = field(default_factory=dict)

    @property
    def of(self) -> str:
        """Whom it speaks of."""
        return self.model + (f" against {self.against}" if self.against else "")


def main(args: list[str], prog: str) -> None:
    """Parses the command line and runs."""
    demo(parse_one(Flags, args, Page(prog, __doc__ or "", f"{prog} --model mine.keras --data folder:photos")))


def demo(flags: Flags) -> None:
    """Every table, verdict and figure, and one page that shows them."""
    begun = time.monotonic()
    if flags.model is None:
        specs: dict[str, Any] = trained(flags.out / "models", flags.quick)
        todo = every(list(specs), PAIRS, SMALL)
        common: dict[str, Any] = {"data": TEST}
    else:
        specs, todo, common = yours(flags)
    make(todo, specs, {**common, "out": str(flags.out / "results")})
    found = collect(flags.out / "results")
    target = flags.out / "report.html"
    write_report(found, target, flags.out / "results")
    for problem in found.problems:
        say(f"left out: {problem}")
    say(f"done in {(time.monotonic() - begun) / 60:.1f} minutes; open {target}")
    print(target)


def trained(out: Path, quick: bool) -> dict[str, Subject]:
    """The demo's networks, trained unless they are there, each opened once for all its tables."""
    from tf_vitcnn.checkpoints.load import load  # TensorFlow comes with it

    subjects = {}
    for i, (name, sizes) in enumerate(MODELS.items(), 1):
        epochs = min(sizes["epochs"], 1) if quick else sizes["epochs"]
        say(f"model {i} of {len(MODELS)}: {name}, {epochs} epochs on {TRAIN}")
        file = fit.train(Recipe(data=TRAIN, val=TEST, **{**sizes, "epochs": epochs}), out, name)
        subjects[name] = load(str(file), name=name)
    return subjects


def yours(flags: Flags) -> tuple[dict[str, Any], list[Table], dict[str, Any]]:
    """The networks and tables of given checkpoints: the paper's settings, less where there are fewer images."""
    common: dict[str, Any] = {"data": flags.data, "data_dir": flags.data_dir, "strategy": flags.strategy}
    given = [spec for spec in (flags.model, flags.against) if spec]
    analyze.check(analyze.Flags(model=given[0], against=flags.against, data=str(flags.data), data_dir=flags.data_dir))
    analyze.start_tensorflow()
    import_all(flags.imports)
    from tf_vitcnn.checkpoints.load import load
    from tf_vitcnn.data.sources import open_source

    have = open_source(str(flags.data), flags.data_dir).size
    settings: dict[str, dict[str, Any]] = {name: fewer(name, have) for name in analyses.names()}
    if flags.probe_data:
        settings["probe"] = {"data": flags.probe_data, "test": flags.data}
    # opened once for all tables; under a strategy each table opens them in its scope
    told = dict(zip(given, said(flags), strict=False))
    specs = {
        _name(spec): load(spec, name=_name(spec), **told[spec]) if flags.strategy == "cpu" else spec for spec in given
    }
    common["told"] = {_name(spec): fields for spec, fields in told.items() if flags.strategy != "cpu"}
    todo = every(list(specs), [tuple(specs)] if len(specs) == 2 else [], settings)
    return specs, [table for table in todo if table.analysis != "probe" or flags.probe_data], common


def fewer(analysis: str, have: int) -> dict[str, int]:
    """An analysis' numbers of images where a source has fewer than the paper's."""
    kind = analyses.find(analysis)
    images = min(kind.images or have, have)
    return {"images": images} | ({"batch": min(kind.batch, images)} if kind.batch else {})


def every(names: list[str], pairs: Iterable[tuple[str, ...]], settings: dict[str, dict[str, Any]]) -> list[Table]:
    """Every analysis on every model and pair that it looks at."""
    tables = []
    for analysis in analyses.names():
        looks = analyses.find(analysis).against
        flags = settings.get(analysis, {})
        if looks != "must":
            tables += [Table(analysis, name, None, flags) for name in names]
        if looks != "no":
            tables += [Table(analysis, a, b, flags) for a, b in pairs]
    return tables


def make(todo: list[Table], specs: dict[str, Any], common: dict[str, Any]) -> None:
    """Writes what can be made; what a model has nothing to say to is left out, and named once at the end."""
    refused: dict[str, dict[str, str]] = {}
    told = common.pop("told", {})
    for i, table in enumerate(todo, 1):
        say(f"table {i} of {len(todo)}: {table.analysis} of {table.of}")
        given = {**common, **table.flags, "model": specs[table.model], "name": table.model, **told.get(table.model, {})}
        if table.against:
            given |= {"against": specs[table.against], "against_name": table.against}
            given |= {f"against_{name}": value for name, value in told.get(table.against, {}).items()}
        try:
            _one(table.analysis, given)
        except BadInput as error:
            refused.setdefault(table.analysis, {})[table.of] = str(error)
    for analysis, why in refused.items():
        say(f"left out: {analysis} of {', '.join(why)}: {next(iter(why.values()))}")


def _one(analysis: str, given: dict[str, Any]) -> None:
    """One table; in smaller minibatches where memory asks for them."""
    kind = analyses.find(analysis)
    own = {field.name for field in fields(kind)}
    chosen = kind(**{name: value for name, value in given.items() if name in own})
    flags = analyze.Flags(**{name: value for name, value in given.items() if name not in own})
    try:
        analyze.analyze((chosen,), flags)
    except TooLarge as refused:
        if not refused.fits:
            raise
        say(f"  in minibatches of {refused.fits}: what fits in memory")
        _one(analysis, {**given, "batch": refused.fits})


def _name(spec: str) -> str:
    return Path(spec).stem if spec.endswith(".keras") else spec.partition("@")[0].replace(":", "_").lower()
