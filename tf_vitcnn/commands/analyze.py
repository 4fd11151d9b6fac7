"""Writes the table of one analysis, or of several separated by commas: DIR/ANALYSIS/NAME[--AGAINST][.TAG].csv.

tf-vitcnn analyze cka --model vit_b32 --against bit_r50x1 --data imagenet2012:validation
"""

import contextlib
import dataclasses
import sys
from typing import Any

from etils import epath

from tf_vitcnn import analyses
from tf_vitcnn.analyses.base import Analysis
from tf_vitcnn.commands.edge import parse
from tf_vitcnn.devices.start import start_tensorflow
from tf_vitcnn.errors import BadInput
from tf_vitcnn.tables.files import discard_parts
from tf_vitcnn.tables.read import differences, read_sidecar
from tf_vitcnn.tables.schema import Sidecar
from tf_vitcnn.tables.write import table_files, write_table


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """What every analysis takes."""

    model: str
    """Spec: vit_b32, vit_b32@FILE.npz, FILE.keras, keras:ResNet50@random, ..."""
    data: str
    """Spec: NAME:SPLIT (tensorflow_datasets), folder:DIR, npz:FILE, digits:train|test, noise."""
    against: str | None = None
    """The other model's spec, for analyses that compare two."""
    images: int | None = None
    """How many images are drawn (default: the analysis' own)."""
    batch: int | None = None
    """Minibatch of Gram analyses, else the micro-batch."""
    taps: tuple[str, ...] | None = None
    """Globs of tap names, several separated by spaces."""
    image_size: int | None = None
    """Network input in pixels (default: the checkpoint's own)."""
    strategy: str = "cpu"
    """cpu, gpu, mirrored, multiworker, tpu or tpu:NAME."""
    seed: int = 0
    """Which images are drawn, and their order."""
    memory: float | None = None
    """Gigabytes that the run may take (default: part of what is free)."""
    out: str = "results"
    """Directory of the tables, local or gs://."""
    name: str | None = None
    """The model's name in tables (default: from its spec)."""
    against_name: str | None = None
    """The other model's name."""
    tag: str | None = None
    """A suffix of the file name."""
    data_dir: str | None = None
    """Where tensorflow_datasets keeps prepared sets."""
    resume_dir: str | None = None
    """Where the totals of an unfinished run wait (default: beside the output)."""
    skip_bad: bool = False
    """Leave corrupt images out instead of stopping."""
    overwrite: bool = False
    """Replace a table that other parameters made."""
    dry_run: bool = False
    """Print taps, images, expected memory and time; compute nothing."""
    jit: bool = False
    """Compile with XLA."""


def main(args: list[str], prog: str) -> int:
    """Parses the command line, runs, writes, prints the paths last."""
    kinds, rest = named(args, prog)
    flags = parse(with_fields(kinds), rest, prog, __doc__)
    chosen = tuple(kind(**{f.name: getattr(flags, f.name) for f in dataclasses.fields(kind)}) for kind in kinds)
    return analyze(chosen, flags)


def named(args: list[str], prog: str) -> tuple[list[type[Analysis]], list[str]]:
    """The analyses that the first argument names, and the other arguments."""
    if not args or args[0].startswith("-"):
        if {"-h", "--help"} & set(args):
            print(f"usage: {prog} ANALYSIS[,ANALYSIS...] --model SPEC --data SPEC [flags]\n\n{__doc__}")
            print(f"analyses: {', '.join(analyses.names())}\nflags: {prog} ANALYSIS --help")
            sys.exit(0)
        raise BadInput(f"name an analysis first: {', '.join(analyses.names())}")
    return [analyses.find(name) for name in dict.fromkeys(args[0].split(","))], args[1:]


def with_fields(kinds: list[type[Analysis]]) -> type:
    """`Flags` and the fields of the analyses, as one dataclass."""
    fields: dict[str, tuple[str, Any, Any]] = {}
    for kind in kinds:
        for f in dataclasses.fields(kind):
            # annotations are text until they are asked for; those of class variables need not resolve at all
            meant = eval(f.type, vars(sys.modules[kind.__module__])) if isinstance(f.type, str) else f.type
            known = fields.setdefault(f.name, (f.name, meant, dataclasses.field(default=f.default)))
            if known[1] != meant or known[2].default != f.default:
                names = ", ".join(k.name for k in kinds)
                raise BadInput(f"--{f.name} means different things to {names}: run them one at a time")
    return dataclasses.make_dataclass("Flags", fields.values(), bases=(Flags,), frozen=True, kw_only=True)


def analyze(chosen: tuple[Analysis, ...], flags: Any) -> int:
    """Computes what is not there yet and writes it."""
    start_tensorflow()
    from tf_vitcnn.devices.strategy import naming_lost_worker

    with naming_lost_worker(flags.strategy):
        return _analyze(chosen, flags)


def _analyze(chosen: tuple[Analysis, ...], flags: Any) -> int:
    from tf_vitcnn.engine.execute import tables
    from tf_vitcnn.engine.forecast import forecast
    from tf_vitcnn.engine.request import Request
    from tf_vitcnn.engine.resume import Lock
    from tf_vitcnn.engine.session import Session

    request = Request(
        chosen,
        flags.data,
        flags.images,
        flags.batch,
        flags.seed,
        flags.taps,
        flags.memory,
        flags.data_dir,
        flags.skip_bad,
        flags.jit,
    )
    names = (flags.name, flags.against_name)
    with Session(request, flags.model, flags.against, flags.strategy, flags.image_size, names, flags.tag) as session:
        if flags.dry_run:
            print(forecast(session))
            return 0
        paths = [target(flags, analysis.name, session.stem()) for analysis in chosen]
        missing = [i for i, path in enumerate(paths) if not kept(path, session.sidecar(i), flags.overwrite)]
        if missing:
            session.keep(missing)
            waiting = paths[missing[0]].parent / f".{paths[missing[0]].name}.resume.npz"
            if flags.resume_dir:  # one directory for all analyses
                waiting = epath.Path(flags.resume_dir) / f".{chosen[missing[0]].name}{waiting.name}"

            def write(made: list[Any]) -> None:
                for i, result in zip(missing if session.chief else (), made, strict=session.chief):
                    for name, other in result.attrs.pop("beside", {}).items():
                        write_table(target(flags, name, session.stem()), other, other.attrs["sidecar"])
                    write_table(paths[i], result, result.attrs["sidecar"])  # last: what has it has all

            with contextlib.ExitStack() as locks:
                for path in (paths[i] for i in missing if session.chief):
                    locks.enter_context(Lock(f"{path}.lock"))
                    discard_parts(*table_files(path))
                locks.enter_context(Lock(f"{waiting}.lock" if session.chief else None))
                discard_parts(*([waiting] if session.chief else []))
                tables(session, waiting, write)
    for path in paths:
        print(f"{path}.csv")
    return 0


def target(flags: Any, analysis: str, stem: str) -> epath.Path:
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
