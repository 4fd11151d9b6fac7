"""Time and memory of every analysis against images, layers, tokens, replicas and workers; what ViT-H/14 would take.

python benchmarks/scale.py [--out saved_results/benchmarks] [--only cka skip_ratio]

A small ViT (width 192) on noise (probes: digits), each point in a process of its own on one core. Seconds are those of
the steps, compilation apart; memory is the peak above the idle process. Growth is the exponent b of seconds ~ size^b,
by least squares on logarithms, over the sizes measured. Replicas and workers share that core: their rows show what
distribution costs here, not what it gains elsewhere. ViT-H/14: see vit_h14.py.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import platform
import queue
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import vit_h14

from tf_vitcnn.devices.start import keep_memory
from tf_vitcnn.devices.strategy import named_strategy
from tf_vitcnn.engine import execute
from tf_vitcnn.engine.door import run
from tf_vitcnn.engine.execute import Checkpoint
from tf_vitcnn.tables.schema import Schema
from tf_vitcnn.tables.write import write_table

keep_memory()
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # children speak of themselves otherwise

BASE = {"layers": 2, "tokens": 64, "replicas": 1, "workers": 1}
AXES = {"layers": (1, 2, 4), "tokens": (16, 64, 144), "replicas": (1, 2, 4), "workers": (1, 2)}
PATCH, WIDTH = 8, 192
NOISE = {"data": "noise:64"}
RUNS: dict[str, dict[str, Any]] = {
    "cka": {**NOISE, "images": 320, "batch": 32, "repeats": 1},
    "localization": {**NOISE, "images": 160, "batch": 32},
    "head_subsets": {**NOISE, "images": 320, "batch": 32},
    "attention_distance": {**NOISE, "images": 320, "batch": 32},
    "skip_ratio": {**NOISE, "images": 320, "batch": 32},
    "receptive_field": {**NOISE, "images": 10},
    "probe": {"data": "digits:train", "batch": 32, "test": "digits:test"},
}

Step = tuple[int, float, float, float]  # steps done, seconds, gigabytes above the idle process, compile seconds

POINTS = Schema(
    keys=("analysis", "axis", "size"),
    values={"seconds": (0, float("inf")), "gigabytes": (0, float("inf")), "compile_seconds": (0, float("inf"))},
    integers=("size",),
    nullable=("compile_seconds",),
)
GROWTH = Schema(
    keys=("analysis", "axis"),
    values={"seconds_exponent": (-10, 10), "gigabytes_exponent": (-10, 10), "points": (2, 100)},
)


def subject(layers: int, tokens: int, name: str = "vit") -> Any:
    """A small ViT of that depth, on images of that many patches."""
    from tf_vitcnn.data.images import Preprocessing
    from tf_vitcnn.models import build
    from tf_vitcnn.models.specs import ViTSpec
    from tf_vitcnn.subject import Subject

    side = PATCH * round(tokens**0.5)
    model = build(ViTSpec(PATCH, WIDTH, layers, 3, 4 * WIDTH), image_size=(side, side), classes=0)
    facts = {"family": "vit", "patch_size": PATCH, "random": True, "pool": "cls", "no_skip": []}
    return Subject(name, model, Preprocessing((side, side)), facts)


def resident(field: str) -> float:
    """VmRSS or VmHWM of this process in GB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024 / 1e9


def measure(analysis: str, point: dict[str, int], config: str | None, core: int) -> list[Step]:
    """One run in a process of its own."""
    os.sched_setaffinity(0, {core})  # before TensorFlow counts the cores
    if config is not None:
        os.environ["TF_CONFIG"] = config
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    cpu = tf.config.list_physical_devices("CPU")[0]
    count = point["replicas"]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    strategy: Any = "multiworker" if config is not None else "mirrored" if count > 1 else "cpu"
    times: list[tuple[int, int, float, float]] = []

    class Watched(Checkpoint):
        def save(self, state: Any, force: bool = False) -> None:
            times.append((state.stage, state.step, time.perf_counter(), resident("VmHWM")))

    execute.Checkpoint = Watched  # type: ignore[misc]
    strategy = named_strategy(strategy)
    with strategy.scope():
        given = [subject(point["layers"], point["tokens"])]
        if analysis == "head_subsets":
            given.append(subject(point["layers"], point["tokens"], "other"))
    idle = resident("VmRSS")
    times.append((0, 0, time.perf_counter(), idle))
    run(analysis, given[0], against=(given[1:] or [None])[0], strategy=strategy, **RUNS[analysis])
    return list(steps(times, idle))


def steps(times: list[tuple[int, int, float, float]], idle: float) -> Iterator[Step]:
    """Seconds and compilation added up; a stage's first step counts as its others do."""
    spent = [(b[0], b[1], b[2] - a[2], b[3]) for a, b in itertools.pairwise(times)]
    seconds = compiling = 0.0
    done = 0
    for stage, step, taken, peak in spent:
        others = [t for s, n, t, _ in spent if s == stage and n > 1]
        usual = float(np.median(others)) if step == 1 and others else taken
        seconds, compiling = seconds + min(usual, taken), compiling + max(0.0, taken - usual)
        done += step > 0
        yield done, seconds, peak - idle, compiling


class Lanes:
    """Points measured side by side, each pinned to a core of its own: compilation, most of the time, needs only one."""

    def __init__(self) -> None:
        self.context = multiprocessing.get_context("forkserver")
        # imported once: every point starts from the same state, without a device open
        self.context.set_forkserver_preload(
            ["tensorflow", "keras", "tf_vitcnn.engine.execute", "tf_vitcnn.engine.door"]
        )
        self.cores: queue.Queue[int] = queue.Queue()
        for core in os.sched_getaffinity(0):
            self.cores.put(core)

    def each(self, tasks: Sequence[tuple[str, dict[str, int]]]) -> list[list[Step]]:
        """The steps of every task, in order."""
        self.call(time.sleep, 0)  # the fork server starts before there are threads
        with ThreadPoolExecutor(self.cores.qsize()) as pool:
            return list(pool.map(lambda task: self.run(*task), tasks))

    def run(self, analysis: str, point: dict[str, int]) -> list[Step]:
        """One point: its processes, the chief's answer."""
        core = self.cores.get()
        configs: list[str | None] = [None]
        if point["workers"] > 1:
            workers = [f"127.0.0.1:{_port()}" for _ in range(point["workers"])]
            tasks = [{"type": "worker", "index": i} for i in range(len(workers))]
            configs = [json.dumps({"cluster": {"worker": workers}, "task": task}) for task in tasks]
        with ThreadPoolExecutor(len(configs)) as pool:
            found, *_ = pool.map(lambda config: self.call(measure, analysis, point, config, core), configs)
        self.cores.put(core)
        print(
            f"{analysis} {point}: {found[-1][1]:.2f} s, {found[-1][2]:.3f} GB, compiled in {found[-1][3]:.1f} s",
            flush=True,
        )
        return found

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """What the function returns in a process of its own."""
        ours, theirs = self.context.Pipe(duplex=False)
        process = self.context.Process(target=_send, args=(theirs, function, *args))
        process.start()
        theirs.close()
        try:
            return ours.recv()
        except EOFError:
            raise SystemExit(f"{function.__name__}{args} failed") from None
        finally:
            process.join()


def _send(pipe: Any, function: Callable[..., Any], *args: Any) -> None:
    pipe.send(function(*args))


def _port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def points(lanes: Lanes, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Every row of the table; the run at the base point is measured once, and gives the growth with images."""
    others = [(axis, size) for axis, sizes in AXES.items() for size in sizes if size != BASE[axis]]
    tasks = [(name, {**BASE, **dict([other])}) for name in names for other in [("layers", BASE["layers"]), *others]]
    found = iter(lanes.each(tasks))
    for analysis in names:
        base = next(found)
        each = RUNS[analysis].get("batch", 1)
        for done in sorted({max(1, len(base) // 4), len(base) // 2, len(base)}):
            yield {**row(analysis, "images", done * each, base[done - 1]), "compile_seconds": None}
        yield from (row(analysis, axis, size, base[-1]) for axis, size in BASE.items())
        yield from (row(analysis, axis, size, next(found)[-1]) for axis, size in others)


def row(analysis: str, axis: str, size: int, step: Step) -> dict[str, Any]:
    """One measured point."""
    _, seconds, gigabytes, compiling = step
    values = {"seconds": seconds, "gigabytes": max(gigabytes, 0.0), "compile_seconds": compiling}
    return {"analysis": analysis, "axis": axis, "size": size, **values}


def growth(measured: pd.DataFrame) -> pd.DataFrame:
    """Exponents of time and memory for each analysis and axis."""
    rows = []
    for (analysis, axis), group in measured.groupby(["analysis", "axis"]):
        slope = {
            f"{name}_exponent": float(np.polyfit(np.log(group["size"]), np.log(np.maximum(group[name], 1e-3)), 1)[0])
            for name in ("seconds", "gigabytes")
        }
        rows.append({"analysis": analysis, "axis": axis, **slope, "points": len(group)})
    return pd.DataFrame(rows)


def chart(measured: pd.DataFrame) -> Any:
    """Seconds above gigabytes, a column for each axis, both scales logarithmic."""
    import altair as alt

    from tf_vitcnn.charts import theme

    rows = []
    for value, title in (("seconds", "seconds"), ("gigabytes", "GB above the idle process")):
        panels = []
        for axis in ("images", *AXES):
            drawn = alt.Chart(measured[measured.axis == axis]).mark_line(point=True)
            panels.append(
                drawn.encode(
                    x=alt.X("size:Q", title=axis, scale=alt.Scale(type="log", base=2)),
                    y=alt.Y(f"{value}:Q", title=title if axis == "images" else None, scale=alt.Scale(type="log")),
                    color=alt.Color("analysis:N", title=None, scale=alt.Scale(range=list(theme.PALETTE))),
                ).properties(width=150, height=170)
            )
        rows.append(alt.hconcat(*panels))
    return alt.vconcat(*rows).properties(title="Time and memory of each analysis against what it is given")


def sidecar(name: str) -> dict[str, Any]:
    """What made a table."""
    import importlib.metadata

    versions = {one: importlib.metadata.version(one) for one in ("tensorflow", "keras", "numpy")}
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    parameters = {"width": WIDTH, "patch": PATCH, "base": BASE, "runs": RUNS, "command": "python benchmarks/scale.py"}
    return {
        "analysis": "scale",
        "table": name,
        "parameters": parameters,
        "subjects": [],
        "data": {},
        "environment": {"versions": {**versions, "python": platform.python_version()}, "machine": machine},
    }


def main() -> None:
    """Measures, fits, writes, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("saved_results/benchmarks"))
    parser.add_argument("--only", nargs="*", default=list(RUNS), choices=list(RUNS))
    args = parser.parse_args()
    begun = time.monotonic()
    lanes = Lanes()
    measured = POINTS.check(pd.DataFrame(points(lanes, args.only)))
    grown = GROWTH.check(growth(measured))
    huge = lanes.call(vit_h14.large)
    for name, made in (("scale", measured), ("scale_growth", grown), ("scale_vit_h14", huge)):
        write_table(args.out / name, made, sidecar(name))
    chart(measured).save(args.out / "scale_chart.json")
    print(grown.pivot(index="analysis", columns="axis", values="seconds_exponent").round(2).to_string())
    print("\n".join(vit_h14.lines(huge)))
    print(f"{(time.monotonic() - begun) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
