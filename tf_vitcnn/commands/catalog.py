"""Released checkpoints; or one model's checkpoints and taps.

Without a model, every released checkpoint with its size and what it was trained on. With one, its checkpoints, and its
taps with their shapes: the names that --taps takes.
"""

import dataclasses

from tf_vitcnn.checkpoints import catalog
from tf_vitcnn.checkpoints.releases import Release, releases
from tf_vitcnn.commands.flags import PLACE, Page, parse_one
from tf_vitcnn.data.images import Preprocessing
from tf_vitcnn.devices.start import start_tensorflow
from tf_vitcnn.errors import BadInput, unknown
from tf_vitcnn.models.specs import SPECS, family_of

COUNTS = ("classes", "px", "parameters", "MB")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """What is looked at."""

    model: str | None = dataclasses.field(default=None, metadata=PLACE)
    """an architecture (vit_b32), or any spec: vit_b32@FILE.npz, FILE.keras, keras:ResNet50@random"""
    image_size: int | None = None
    """network input in pixels, for the shapes"""
    family: str | None = None
    """only checkpoints of this one: vit, deit, bit, mixer, hybrid, dinov2, dinov3, clip, siglip, ..."""


def main(args: list[str], prog: str) -> None:
    """Parses the command line and runs."""
    flags = parse_one(Flags, args, Page(prog, __doc__ or "", f"{prog} vit_b32"))
    if flags.model is None:
        _everything(flags.family)
    elif flags.family is not None:
        raise BadInput(f"--family {flags.family}: filters the whole list; leave {flags.model} out")
    else:
        _one(flags.model, flags.image_size)


def _everything(family: str | None) -> None:
    entries = [entry for entry in catalog.ENTRIES if family in (None, family_of(entry.spec))]
    others = [release for release in releases() if family in (None, release.family)]
    if not entries and not others:
        known = {*(family_of(spec) for spec in SPECS.values()), *(release.family for release in releases())}
        raise unknown("family", str(family), sorted(known))
    if entries:
        _print([("model", "variant", *COUNTS, "licence", "trained on", "input", "source"), *map(_row, entries)])
    if entries and others:
        print()
    if others:
        _print([("model", "family", *COUNTS, "licence", "trained on", "input"), *map(_release, others)])
    if family is None:
        _ending()


def _ending() -> None:
    bare = ", ".join(name for name in SPECS if not catalog.variants(name))
    print(f"\nWithout a released checkpoint: {bare}")
    print("MODEL is MODEL@ its first variant; MODEL@random has seeded weights, MODEL@FILE.npz and MODEL@DIR your own")


def _row(entry: catalog.Entry) -> tuple[str, ...]:
    data = f"{entry.finetuned_from} + {entry.trained_on}" if entry.finetuned_from else entry.trained_on
    return (
        entry.model,
        entry.variant,
        *_counts(entry),
        entry.licence,
        data,
        _input(entry.preprocessing()),
        entry.source,
    )


def _release(release: Release) -> tuple[str, ...]:
    data = f"{release.finetuned_from} + {release.trained_on}" if release.finetuned_from else release.trained_on
    seen, licence = _input(release.preprocessing), release.licence or "?"
    return (release.spec, release.family, *_counts(release), licence, data, seen)


def _counts(found: catalog.Entry | Release) -> tuple[str, ...]:
    """Classes, pixels, parameters and megabytes in float32."""
    megabytes = found.parameters * 4 / 1e6
    return (str(found.classes or "-"), str(found.image_size), f"{found.parameters:,}", f"{megabytes:.0f}")


def _input(preprocessing: Preprocessing) -> str:
    """Range, resizing and the share of the image that is kept."""
    return f"{preprocessing.values} {preprocessing.resize}" + (f" {preprocessing.crop:g}" if preprocessing.crop else "")


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
