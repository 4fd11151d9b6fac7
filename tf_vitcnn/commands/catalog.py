"""Released checkpoints; or one model's checkpoints and taps.

Without a model, every released checkpoint with its size and what it was trained on. With one, its checkpoints, and its
taps with their shapes: the names that --taps takes.
"""

import dataclasses

from tf_vitcnn.checkpoints import catalog
from tf_vitcnn.commands.flags import PLACE, Page, parse_one
from tf_vitcnn.devices.start import start_tensorflow
from tf_vitcnn.models.specs import SPECS, family_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """What is looked at."""

    model: str | None = dataclasses.field(default=None, metadata=PLACE)
    """an architecture (vit_b32), or any spec: vit_b32@FILE.npz, FILE.keras, keras:ResNet50@random"""
    image_size: int | None = None
    """network input in pixels, for the shapes"""


def main(args: list[str], prog: str) -> None:
    """Parses the command line and runs."""
    flags = parse_one(Flags, args, Page(prog, __doc__ or "", f"{prog} vit_b32"))
    if flags.model is None:
        _everything()
    else:
        _one(flags.model, flags.image_size)


def _everything() -> None:
    rows: list[tuple[str, ...]] = [("model", "variant", "classes", "px", "parameters", "trained on", "input", "source")]
    rows += [_row(entry) for entry in catalog.ENTRIES]
    _print(rows)
    bare = ", ".join(name for name in SPECS if not catalog.variants(name))
    print(f"\nWithout a released checkpoint: {bare}")
    print("MODEL is MODEL@ its first variant; MODEL@random has seeded weights, MODEL@FILE.npz and MODEL@DIR your own")


def _row(entry: catalog.Entry) -> tuple[str, ...]:
    data = f"{entry.finetuned_from} + {entry.trained_on}" if entry.finetuned_from else entry.trained_on
    preprocessing = entry.preprocessing()
    values = f"{preprocessing.values} {preprocessing.resize}" + (f" {preprocessing.crop}" if preprocessing.crop else "")
    counts = (str(entry.classes or "-"), str(entry.image_size), f"{entry.parameters:,}")
    return (entry.model, entry.variant, *counts, data, values, entry.source)


def _one(model: str, image_size: int | None) -> None:
    from tf_vitcnn.checkpoints.describe import taps_of
    from tf_vitcnn.checkpoints.load import resolved

    if model not in SPECS:
        resolved(model)  # what cannot be found is refused before TensorFlow loads
    for entry in catalog.variants(model).values():
        print(f"{entry.model}@{entry.variant}  {entry.parameters:,} parameters  {entry.source}")
    if model in SPECS:
        print(f"family {family_of(SPECS[model])}")
    start_tensorflow()
    lines, parameters, size = taps_of(model, image_size)
    print(f"{len(lines)} taps, {parameters:,} parameters, {size[0]} x {size[1]} pixels\n")
    _print([(str(depth), tap, shape) for depth, (tap, shape) in enumerate(lines)])


def _print(rows: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
