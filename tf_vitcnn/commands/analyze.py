"""The table of one analysis, or of several parted by commas.

Writes OUT/ANALYSIS/NAME[--AGAINST][.TAG].csv with its .json beside it and prints the path. A table that is there with
the same settings is kept; a run that was killed goes on where it was. Analyses named together share what passes over
the images they can.
"""

import contextlib
import dataclasses
import sys
import textwrap
from typing import TYPE_CHECKING, Any, Literal

from etils import epath

from tf_vitcnn import analyses
from tf_vitcnn.analyses.base import Analysis
from tf_vitcnn.commands.edge import say
from tf_vitcnn.commands.flags import Page, parse
from tf_vitcnn.commands.networks import Networks, import_all, said
from tf_vitcnn.devices.start import require_tensorflow, start_tensorflow
from tf_vitcnn.errors import BadInput
from tf_vitcnn.tables.files import discard_parts
from tf_vitcnn.tables.read import differences, read_sidecar
from tf_vitcnn.tables.schema import Sidecar
from tf_vitcnn.tables.write import table_files, write_table

if TYPE_CHECKING:
    from tf_vitcnn.engine.session import Session


@dataclasses.dataclass(frozen=True, kw_only=True)
class Looked:
    """What is looked at."""

    model: str
    """vit_b32, vit_b32@FILE.npz, FILE.keras, keras:ResNet50@random, ... (tf-vitcnn catalog)"""
    against: str | None = None
    """the other model, for analyses that compare two"""
    data: str
    """NAME:SPLIT (tensorflow_datasets), folder:DIR, npz:FILE, digits:train, digits:test or noise"""
    images: int | None = None
    """how many are drawn; the analysis' own number unless told otherwise"""
    seed: int = 0
    """which images are drawn, and their order"""
    taps: tuple[str, ...] | None = None
    """sublayers by name or pattern, e.g. 'block0?/*' '*/resid/post'"""
    against_taps: tuple[str, ...] | None = None
    """as --taps, for the other model; --taps alone is for both"""
    image_size: int | None = None
    """network input in pixels; the checkpoint's own unless told otherwise"""
    data_dir: str | None = None
    """where tensorflow_datasets keeps prepared sets"""
    skip_bad: bool = False
    """leave corrupt images out instead of stopping"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Where:
    """Where it runs."""

    batch: int | None = None
    """images in a minibatch (analyses of whole minibatches), else in a micro-batch"""
    strategy: str = "cpu"
    """cpu, gpu, mirrored, multiworker, tpu or tpu:NAME"""
    memory: float | None = None
    """gigabytes that the run may take; part of what is free unless told otherwise"""
    resume_dir: str | None = None
    """where the totals of an unfinished run wait; beside the table unless told otherwise"""
    compute: Literal["float32", "tensorfloat32", "bfloat16"] = "float32"
    """what products inside the networks take their inputs in; recorded in the table's .json"""
    jit: bool = False
    """compile with XLA"""
    dry_run: bool = False
    """print taps, images, expected memory and time; compute nothing"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Written:
    """What is written."""

    out: str = "results"
    """directory of the tables, local or gs://"""
    name: str | None = None
    """the model's name in tables; from its spec unless told otherwise"""
    against_name: str | None = None
    """the other model's name"""
    tag: str | None = None
    """a suffix of the file's name, for another setting of the same run"""
    overwrite: bool = False
    """replace a table that other settings made"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags(Written, Where, Networks, Looked):
    """What every analysis takes."""


def main(args: list[str], prog: str) -> int:
    """Parses the command line, runs, writes, prints the paths last."""
    kinds, rest = named(args, prog)
    word = ",".join(kind.name for kind in kinds)
    page = Page(f"{prog} {word}", _about(kinds), f"{prog} {word} {_example(kinds)}")
    *chosen, flags = parse([*kinds, Flags], rest, page)
    status = analyze(tuple(chosen), flags)
    if not flags.dry_run:
        say(f"next: tf-vitcnn report {flags.out}")
    return status


def named(args: list[str], prog: str) -> tuple[list[type[Analysis]], list[str]]:
    """The analyses that the first argument names, and the other arguments."""
    if not args or args[0].startswith("-"):
        if {"-h", "--help"} & set(args):
            print(f"usage: {prog} ANALYSIS[,ANALYSIS...] --model MODEL --data DATA [flags]\n\n{__doc__}")
            for name in analyses.names():
                print(textwrap.fill(f"  {name:<20}{_summary(name)}", 80, subsequent_indent=" " * 22))
            print(f"\n{prog} ANALYSIS --help shows an example and every flag.")
            sys.exit(0)
        raise BadInput(f"name an analysis first: {', '.join(analyses.names())}")
    return [analyses.find(name) for name in dict.fromkeys(args[0].split(","))], args[1:]


def _summary(name: str) -> str:
    return (analyses.find(name).__doc__ or "").splitlines()[0].rstrip(".")


def _about(kinds: list[type[Analysis]]) -> str:
    return "\n\n".join(f"{kind.name}: {_summary(kind.name)}." for kind in kinds)


def _example(kinds: list[type[Analysis]]) -> str:
    """Flags with which they run on ImageNet."""
    two = " --against bit_r50x1" if any(kind.against == "must" for kind in kinds) else ""
    tested = any(getattr(kind, "source_fields", ()) for kind in kinds)
    data = "imagenet2012:train --test imagenet2012:validation" if tested else "imagenet2012:validation"
    return f"--model vit_b32{two} --data {data}"


def analyze(chosen: tuple[Analysis, ...], flags: Flags) -> int:
    """Computes what is not there yet and writes it."""
    check(flags)
    require_tensorflow()
    start_tensorflow()
    from tf_vitcnn.devices.strategy import naming_lost_worker

    with naming_lost_worker(flags.strategy):
        return _analyze(chosen, flags)


def session(chosen: tuple[Analysis, ...], flags: Flags) -> "Session":
    """The flags' request, bound to networks, images and devices once it is entered."""
    from tf_vitcnn.engine.request import Request
    from tf_vitcnn.engine.session import Session

    request = Request(
        chosen,
        flags.data,
        flags.images,
        flags.batch,
        flags.seed,
        flags.taps,
        memory=flags.memory,
        data_dir=flags.data_dir,
        skip_bad=flags.skip_bad,
        jit=flags.jit,
        against_taps=flags.against_taps,
        compute=flags.compute,
    )
    names = (flags.name, flags.against_name)
    import_all(flags.imports)
    return Session(request, flags.model, flags.against, flags.strategy, flags.image_size, names, flags.tag, said(flags))


def _analyze(chosen: tuple[Analysis, ...], flags: Flags) -> int:
    from tf_vitcnn.engine.forecast import forecast, slow

    with session(chosen, flags) as opened:
        if flags.dry_run:
            print(forecast(opened))
            return 0
        paths = [target(flags, analysis.name, opened.stem()) for analysis in chosen]
        missing = [i for i, path in enumerate(paths) if not kept(path, opened.sidecar(i), flags.overwrite)]
        if missing:
            opened.keep(missing)
            for line in slow(opened) if opened.chief else ():
                say(line)
            _compute(opened, flags, [chosen[i].name for i in missing], [paths[i] for i in missing])
    for path in paths:
        print(f"{path}.csv")
    return 0


def _compute(session: Any, flags: Flags, names: list[str], paths: list[epath.Path]) -> None:
    """Computes a session's tables and writes them, each under the lock of its one writer."""
    from tf_vitcnn.engine.execute import beside, tables
    from tf_vitcnn.engine.resume import Lock

    waiting = paths[0].parent / f".{paths[0].name}.resume.npz"
    if flags.resume_dir:  # one directory for all analyses
        waiting = epath.Path(flags.resume_dir) / f".{names[0]}{waiting.name}"

    def write(made: list[Any]) -> None:
        for path, result in zip(paths if session.chief else (), made, strict=session.chief):
            for name, other in result.attrs.pop("beside", {}).items():
                write_table(target(flags, name, session.stem()), other, other.attrs["sidecar"])
            write_table(path, result, result.attrs["sidecar"])  # last: what has it has all

    with contextlib.ExitStack() as locks:
        for path in paths if session.chief else ():
            locks.enter_context(Lock(f"{path}.lock"))
            discard_parts(*table_files(path))
        locks.enter_context(Lock(f"{waiting}.lock" if session.chief else None))
        states = [beside(waiting, [i]) for i in range(len(paths))] if session.chief else []
        discard_parts(*filter(None, states))
        tables(session, waiting, write)


def check(flags: Flags) -> None:
    """Refuses names that are misspelt, before TensorFlow is imported."""
    from tf_vitcnn.checkpoints.load import refuse_unknown
    from tf_vitcnn.data.spec import refuse_misspelt

    for spec in (flags.model, flags.against):
        if isinstance(spec, str):
            refuse_unknown(spec)
    if isinstance(flags.data, str):
        refuse_misspelt(flags.data, flags.data_dir)


def target(flags: Flags, analysis: str, stem: str) -> epath.Path:
    """Where a table goes, without its suffix."""
    return epath.Path(flags.out) / analysis / (stem + (f".{flags.tag}" if flags.tag else ""))


def kept(path: epath.Path, sidecar: Sidecar, overwrite: bool) -> bool:
    """Whether the table is there already; one that other parameters made is in the way."""
    csv = path.parent / f"{path.name}.csv"
    if not csv.exists():
        writable(path.parent)
        return False
    try:
        differ = differences(read_sidecar(csv), sidecar)
    except BadInput as broken:
        differ = [str(broken)]
    if differ and not overwrite:
        raise BadInput(f"{csv} was made with other parameters ({'; '.join(differ[:3])}); pass --overwrite or --tag")
    return not differ


def writable(folder: epath.Path) -> None:
    """Refuses an output directory that cannot be written, before anything is computed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.write_text("")
        probe.unlink(missing_ok=True)  # another worker may have been faster
    except OSError as error:
        raise BadInput(f"{folder}: cannot be written: {error.strerror or error}") from error
