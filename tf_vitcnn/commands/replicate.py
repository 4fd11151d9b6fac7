"""The paper's study on models trained here, to one page.

A plan's models are trained, every analysis is run on them, and the page of figures and verdicts is built. Every step
leaves its result, so the same command goes on where a killed one stopped. OUT gets models/, results/ (tables, sidecars,
claims.csv, report.html) and, for photographs, images/.
"""

from __future__ import annotations

import os
import shlex
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tf_vitcnn.commands import analyze, report
from tf_vitcnn.commands.edge import say
from tf_vitcnn.commands.flags import Page, parse_one
from tf_vitcnn.errors import BadInput
from tf_vitcnn.training import fit, plan

PLANS = Path(__file__).with_name("plans")
KNOWN = ("run", "models", "against", "data", "flags")


@dataclass(frozen=True)
class Flags:
    """What is replicated, and where."""

    out: Path
    """directory of models, tables and the page"""
    data: Path | None = None
    """directory with train/ and val/ of class folders, or a zip file that holds one (or a directory with such a zip)"""
    smoke: bool = False
    """minutes on the digits instead of hours on photographs"""
    plan: Path | None = None
    """another plan than our own (tiny_imagenet, or digits with --smoke)"""
    only: tuple[str, ...] = ()
    """of train, analyze, report"""


def main(args: list[str], prog: str) -> None:
    """Runs what is not there yet."""
    flags = parse_one(Flags, args, Page(prog, __doc__ or "", f"{prog} --data photographs.zip --out study"))
    chosen = flags.plan or PLANS / ("digits.toml" if flags.smoke else "tiny_imagenet.toml")
    steps = flags.only or ("train", "analyze", "report")
    flags.out.mkdir(parents=True, exist_ok=True)
    if not flags.smoke:
        prepare(flags.data, flags.out)
    if "train" in steps:
        machine = fit.Machine(jit=not flags.smoke)  # minutes are not worth compiling for
        for path in plan.train_all(plan.read(chosen), flags.out / "models", machine):
            print(path)
    if "analyze" in steps:
        for arguments in commands(chosen, flags.out):
            say(f"tf-vitcnn analyze {shlex.join(arguments)}")
            analyze.main(arguments, "tf-vitcnn analyze")
    if "report" in steps:
        report.build(report.Flags(results=flags.out / "results"))


def commands(path: Path, out: Path) -> Iterator[list[str]]:
    """The arguments of `analyze` for each analysis of a plan and each of its models."""
    text = plan.load(path)
    for entry in text.get("analysis", []):
        where = f"{path}, analysis {entry.get('run')!r}"
        if surplus := set(entry) - set(KNOWN):
            raise BadInput(f"{where}: unknown {sorted(surplus)[0]!r}; available: {', '.join(KNOWN)}")
        data = plan.filled(entry.get("data") or text.get("study", {}).get("data", ""), out, where)
        flags = shlex.split(plan.filled(entry.get("flags", ""), out, where))
        for model in entry["models"]:
            for against in entry.get("against", [None]):
                yield [entry["run"], *_subjects(out, model, against), "--data", data, *flags, *_place(out)]


def _subjects(out: Path, model: str, against: str | None) -> list[str]:
    given = ["--model", str(out / "models" / f"{model}.keras")]
    return given if against is None else [*given, "--against", str(out / "models" / f"{against}.keras")]


def _place(out: Path) -> list[str]:
    return ["--out", str(out / "results")]


def prepare(data: Path | None, out: Path) -> None:
    """Sets IMAGES and HALVES for the plan: the photographs, and links to the two halves of their classes."""
    if data is None:
        raise BadInput("--data must be given: the photographs (train/ and val/), or --smoke")
    images = _images(data, out)
    halves = out / "halves"
    classes = sorted(path.name for path in (images / "train").iterdir() if path.is_dir())
    for half, names in (("first", classes[: len(classes) // 2]), ("second", classes[len(classes) // 2 :])):
        for split in ("train", "val"):
            (halves / half / split).mkdir(parents=True, exist_ok=True)
            for name in names:
                link = halves / half / split / name
                if not link.is_symlink():
                    link.symlink_to((images / split / name).resolve())
    os.environ["IMAGES"], os.environ["HALVES"] = str(images), str(halves)


def _images(data: Path, out: Path) -> Path:
    """The directory of train/ and val/, extracted first if need be."""
    if (data / "train").is_dir() and (data / "val").is_dir():
        return data
    archives = [data] if data.suffix == ".zip" else sorted(data.glob("*.zip")) if data.is_dir() else []
    if not archives or not archives[0].exists():
        raise BadInput(f"{data}: expected a directory with train/ and val/, or a zip file of one")
    images = out / "images"
    done = images / ".complete"
    if not done.exists():
        try:
            with zipfile.ZipFile(archives[0]) as archive:
                archive.extractall(images)  # names are made safe by zipfile
        except zipfile.BadZipFile as error:
            raise BadInput(f"{archives[0]}: not a zip file") from error
        if not (images / "train").is_dir() or not (images / "val").is_dir():
            raise BadInput(f"{archives[0]}: holds no train/ and val/")
        done.touch()
    return images
