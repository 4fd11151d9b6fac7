"""The paper's study, on models trained here or given, as one page.

A plan's models are trained, every analysis is run on them and on the networks that it is given, and the page of figures
and verdicts is built. Every step leaves its result, so the same command goes on where a killed one stopped. OUT gets
models/, subjects/, results/ (tables, sidecars, claims.csv, report.html) and, for photographs, images/.
"""

from __future__ import annotations

import os
import shlex
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tf_vitcnn.commands import analyze, report, subjects
from tf_vitcnn.commands.edge import say
from tf_vitcnn.commands.flags import Page, parse_one
from tf_vitcnn.data import domains
from tf_vitcnn.errors import BadInput, unknown
from tf_vitcnn.training import fit, plan

PLANS = Path(__file__).with_name("plans")
KNOWN = ("run", "models", "against", "data", "flags")
STEPS = ("train", "analyze", "report")


@dataclass(frozen=True)
class Flags:
    """What is replicated, and where."""

    out: Path
    """directory of models, tables and the page"""
    data: Path | None = None
    """directory with train/ and val/ of class folders, or a zip file that holds one (or a directory with such a zip);
    for a plan with networks of its own, the directory of their weights and photographs"""
    smoke: bool = False
    """minutes on the digits instead of hours on photographs"""
    plan: Path | None = None
    """another plan than our own (tiny_imagenet, or digits with --smoke)"""
    only: tuple[str, ...] = ()
    """of train, analyze, report"""
    memory: float | None = None
    """gigabytes that an analysis may take; part of what is free unless told otherwise"""
    dry_run: bool = False
    """print how long each step took or would take at least; train and compute nothing"""


def main(args: list[str], prog: str) -> None:
    """Runs what is not there yet."""
    flags = parse_one(Flags, args, Page(prog, __doc__ or "", f"{prog} --data photographs.zip --out study"))
    chosen = flags.plan or PLANS / ("digits.toml" if flags.smoke else "tiny_imagenet.toml")
    steps = flags.only or STEPS
    if odd := [step for step in steps if step not in STEPS]:
        raise unknown("step", odd[0], STEPS)
    flags.out.mkdir(parents=True, exist_ok=True)
    if not flags.smoke:
        prepare(chosen, flags.data, flags.out)
    given = subjects.read(chosen, flags.out)
    for network in given.values():
        network.lay_out()
    work = list(commands(chosen, flags.out, given, flags.memory)) if "analyze" in steps else []
    trainings = plan.read(chosen) if "train" in steps else []
    if flags.dry_run:
        from tf_vitcnn.commands.expected import told

        for line in told(trainings, work, flags.out):
            print(line, flush=True)
        return
    machine = fit.Machine(jit=False if flags.smoke else None)  # minutes are not worth compiling for
    for path in plan.train_all(trainings, flags.out / "models", machine):
        print(path)
    for arguments in work:
        say(f"tf-vitcnn analyze {shlex.join(arguments)}")
        analyze.main(arguments, "tf-vitcnn analyze")
    if "report" in steps:
        report.build(report.Flags(results=flags.out / "results"))


def commands(
    path: Path, out: Path, given: dict[str, subjects.Given] | None = None, memory: float | None = None
) -> Iterator[list[str]]:
    """The arguments of `analyze` for each analysis of a plan and each of its models."""
    text = plan.load(path)
    named = {run.name: subjects.Given(run.name, str(out / "models" / f"{run.name}.keras")) for run in plan.read(path)}
    if twice := named.keys() & (given or {}).keys():
        raise BadInput(f"{path}: {min(twice)!r} names both a run and a subject")
    named |= given or {}
    room = [] if memory is None else ["--memory", f"{memory:g}"]
    for entry in text.get("analysis", []):
        where = f"{path}, analysis {entry.get('run')!r}"
        for key in entry:
            if key not in KNOWN:
                raise unknown(f"setting in {where}", key, KNOWN)
        data = plan.filled(entry.get("data") or text.get("study", {}).get("data", ""), out, where)
        flags = shlex.split(plan.filled(entry.get("flags", ""), out, where))
        for name in (*entry["models"], *entry.get("against", ())):
            if name not in named:
                raise unknown(f"model in {where}", name, named)
        for model in entry["models"]:
            for against in entry.get("against", [None]):
                both = [*named[model].flags(), *(named[against].flags("against-") if against else ())]
                yield [entry["run"], *both, "--data", data, *flags, "--out", str(out / "results"), *room]


def prepare(chosen: Path, data: Path | None, out: Path) -> None:
    """Sets DATA and what the plan calls its photographs; for a plan that names none IMAGES and HALVES.

    [study] photographs = {SAMPLE = "sample"} is the folder DATA/sample, or DATA/sample.zip extracted first, and
    FEW = {of = "$SAMPLE/val", each = 10} links to the first ten of each class; HALVES has links to the two halves of
    the classes of IMAGES.
    """
    photographs = plan.load(chosen).get("study", {}).get("photographs")
    if data is None:
        raise BadInput("--data must be given: the photographs (train/ and val/), or --smoke")
    os.environ["DATA"] = str(data)
    if photographs is not None:
        for variable, name in photographs.items():
            os.environ[variable] = str(_few(variable, name, out) if isinstance(name, dict) else _named(name, data, out))
        return
    images = _images(data, out)
    _halve(images, out / "halves")
    os.environ["IMAGES"], os.environ["HALVES"] = str(images), str(out / "halves")


def _named(name: str, data: Path, out: Path) -> Path:
    """DATA/name, or what its zip file holds."""
    found = data / name
    return found if found.is_dir() else extracted(found.with_name(f"{name}.zip"), out / "images" / name)


def _few(variable: str, entry: dict[str, Any], out: Path) -> Path:
    """Links to the first images of each class, by name."""
    source, folder = Path(plan.filled(entry["of"], out, variable)), out / "images" / variable.lower()
    for kind in sorted(path for path in source.iterdir() if path.is_dir()):
        (folder / kind.name).mkdir(parents=True, exist_ok=True)
        for image in sorted(kind.iterdir())[: entry["each"]]:
            link = folder / kind.name / image.name
            if not link.is_symlink():
                link.symlink_to(image.resolve())
    return folder


def _halve(images: Path, halves: Path) -> None:
    """Links to the two halves of the classes, declared to be photographs unless the images say otherwise."""
    classes = sorted(path.name for path in (images / "train").iterdir() if path.is_dir())
    for half, names in (("first", classes[: len(classes) // 2]), ("second", classes[len(classes) // 2 :])):
        for split in ("train", "val"):
            (halves / half / split).mkdir(parents=True, exist_ok=True)
            declared = images / split / "domain.txt"
            word = declared.read_text() if declared.is_file() else f"{domains.PHOTOGRAPHS}\n"
            (halves / half / split / "domain.txt").write_text(word)
            for name in names:
                link = halves / half / split / name
                if not link.is_symlink():
                    link.symlink_to((images / split / name).resolve())


def _images(data: Path, out: Path) -> Path:
    """The directory of train/ and val/, extracted first if need be."""
    if (data / "train").is_dir() and (data / "val").is_dir():
        return data
    archives = [data] if data.suffix == ".zip" else sorted(data.glob("*.zip")) if data.is_dir() else []
    if not archives:
        raise BadInput(f"{data}: expected a directory with train/ and val/, or a zip file of one")
    images = extracted(archives[0], out / "images")
    if not (images / "train").is_dir() or not (images / "val").is_dir():
        raise BadInput(f"{archives[0]}: holds no train/ and val/")
    return images


def extracted(archive: Path, folder: Path) -> Path:
    """The folder with all that the archive holds, extracted once."""
    done = folder / ".complete"
    if done.exists():
        return folder
    try:
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(folder)  # names are made safe by zipfile
    except FileNotFoundError as error:
        raise BadInput(f"{archive}: no such file; expected a zip file of photographs, or their folder") from error
    except zipfile.BadZipFile as error:
        raise BadInput(f"{archive}: not a zip file") from error
    done.touch()
    return folder
