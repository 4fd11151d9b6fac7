"""Trains three small networks on digits, runs every analysis on them, and builds the report: offline, in minutes.

With --model, --against and --data the same is done for released checkpoints:

tf-vitcnn demo --model vit_b32 --against bit_r50x1 --data imagenet2012:validation
"""

import sys
import time
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from tf_vitcnn import analyses
from tf_vitcnn.commands import analyze
from tf_vitcnn.commands.edge import call
from tf_vitcnn.errors import BadInput
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
    "receptive_field": {"images": 8, "channels": 16, "cell": 2},
    "probe": {"data": TRAIN, "test": TEST, "tokens": "each"},
}


@dataclass(frozen=True)
class Job:
    """One table to make."""

    analysis: str
    model: str
    against: str | None
    flags: dict[str, Any] = field(default_factory=dict)


def main(args: list[str], prog: str) -> int | None:
    """Parses the command line and runs."""
    return call(demo, args, prog, __doc__)


def demo(
    out: Path = Path("demo"),
    model: str | None = None,
    against: str | None = None,
    data: str | None = None,
    probe_data: str | None = None,
    data_dir: str | None = None,
    strategy: str = "cpu",
    quick: bool = False,
) -> None:
    """Every table, verdict and figure, and one page that shows them.

    Args:
        out: Directory of models, tables and report.html.
        model: Spec of a checkpoint to look at instead of training.
        against: Spec of a checkpoint to compare it with.
        data: Images, e.g. imagenet2012:validation.
        probe_data: Labelled images that train the linear probes; without them the probes are left out.
        data_dir: Where tensorflow_datasets keeps its prepared sets.
        strategy: cpu, gpu, mirrored or tpu.
        quick: Train for one epoch only: to see that everything runs, not what it says.
    """
    begun = time.monotonic()
    if (model is None) != (data is None) or (against and not model):
        raise BadInput("--model and --data go together (and --against with them); without them digits are trained on")
    if model is None:
        specs: dict[str, Any] = trained(out / "models", quick)
        todo = jobs(list(specs), PAIRS, SMALL)
        common: dict[str, Any] = {"data": TEST}
    else:
        specs = {_name(spec): spec for spec in (model, against) if spec}
        probe = {"probe": {"data": probe_data, "test": data}} if probe_data else {}
        todo = jobs(list(specs), [tuple(specs)] if against else [], probe)
        common = {"data": data, "data_dir": data_dir, "strategy": strategy}
    tables(todo, specs, {**common, "out": str(out / "results")})
    found = collect(out / "results")
    target = out / "report.html"
    write_report(found, target, out / "results")
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


def jobs(names: list[str], pairs: Any, settings: dict[str, dict[str, Any]]) -> list[Job]:
    """Every analysis on every model and pair that it looks at."""
    made = []
    for analysis in analyses.names():
        looks = analyses.find(analysis).against
        flags = settings.get(analysis, {})
        if looks != "must":
            made += [Job(analysis, name, None, flags) for name in names]
        if looks != "no":
            made += [Job(analysis, a, b, flags) for a, b in pairs]
    return made


def tables(todo: list[Job], specs: dict[str, Any], common: dict[str, Any]) -> None:
    """Writes what can be made; what a model has nothing to say to is named and left out."""
    for i, job in enumerate(todo, 1):
        who = job.model + (f" against {job.against}" if job.against else "")
        say(f"table {i} of {len(todo)}: {job.analysis} of {who}")
        kind = analyses.find(job.analysis)
        given = {**common, **job.flags, "model": specs[job.model], "name": job.model}
        if job.against:
            given |= {"against": specs[job.against], "against_name": job.against}
        try:
            flags = analyze.with_fields([kind])(**given)
            own = {name: getattr(flags, name) for name in (f.name for f in fields(kind))}
            analyze.analyze((kind(**own),), flags)
        except BadInput as refused:
            say(f"  left out: {refused}")


def say(line: str) -> None:
    """Progress, on stderr."""
    print(line, file=sys.stderr, flush=True)


def _name(spec: str) -> str:
    return Path(spec).stem if spec.endswith(".keras") else spec.partition("@")[0].replace(":", "_").lower()
