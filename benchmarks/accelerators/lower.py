"""Every step that the suite runs on a device, lowered for one that nobody has: modules and `programs.json` in a folder.

    python benchmarks/accelerators/lower.py FOLDER [MODEL ...] [--platform TPU]

The project's own walks run; only their `Replicas` is another: each step is traced and lowered, nothing is computed,
and what it would give is a `Buffer` that has a shape and no numbers. Buffers count the bytes that are held while a
step runs, as Python's references say. Needs tensorflow-tpu, whose CPU-only wheel has the kernels of TPUs.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.update(TPU_SKIP_MDS_QUERY="1", TPU_ACCELERATOR_TYPE="v5litepod-4", TPU_WORKER_HOSTNAMES="localhost")
os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "true"  # no device is taken: several processes may look
sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.accelerators.modules import unnamed
from tf_vitcnn.devices.start import start_tensorflow

start_tensorflow()

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from tf_vitcnn.devices.precision import precision  # noqa: E402
from tf_vitcnn.devices.replicas import Replicas  # noqa: E402


class Buffer:
    """A tensor on the device: shape, type, and bytes that are held as long as this is."""

    def __init__(self, device: Device, shape: Sequence[int], dtype: Any) -> None:
        self.device, self.shape, self.dtype = device, tf.TensorShape(shape), tf.as_dtype(dtype)
        device.held += self.nbytes

    def __del__(self) -> None:
        self.device.held -= self.nbytes

    @property
    def nbytes(self) -> int:
        """As they lie in the memory of the host; a device may pad."""
        return int(np.prod(self.shape.as_list(), dtype=np.int64)) * self.dtype.size

    def numpy(self) -> np.ndarray:
        """Numbers of the right shape, as sums come to the host."""
        values = np.abs(np.random.default_rng(0).standard_normal(self.shape.as_list())) + 1
        return values.astype(self.dtype.as_numpy_dtype)


class Device(Replicas):
    """Replicas of a device that is not there: steps are lowered for it instead of being run."""

    def __init__(self, folder: Path, platform: str) -> None:
        super().__init__(tf.distribute.get_strategy())
        self.folder, self.platform = folder, platform
        self.kind, self.plain, self.sharing, self.held = "TPU", True, 1, 0
        self.programs: dict[str, dict[str, Any]] = {}
        self.about: dict[str, Any] = {}
        self.plans: dict[str, dict[str, float]] = {}
        self.errors: dict[str, str] = {}
        self.weights: dict[str, int] = {}  # bytes of each model's
        self.variables: list[Any] = []  # the model's Keras variables
        self.reads = False  # whether steps read them without being given them
        folder.mkdir(parents=True, exist_ok=True)

    def plan(self, expected: float, images: int) -> None:
        """What the project expects the present step's run to take, and how many images its calls here are of."""
        self.plans[self.key] = {"bytes": expected, "images": images}
        self.errors.pop(self.key, None)
        for program in self.programs.values():  # what an earlier call lowered for this step
            program["uses"].pop(self.key, None)

    def failed(self, error: Exception) -> None:
        """Why the present step cannot be lowered."""
        self.errors[self.key] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        print(f"{self.about} {self.errors[self.key]}", flush=True)

    @property
    def key(self) -> str:
        """The present step."""
        return json.dumps(self.about, sort_keys=True)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Steps that are lowered inside read the model's weights."""
        self.reads = True
        try:
            yield
        finally:
            self.reads = False

    def values(self, weights: Sequence[Any]) -> Any:
        """The weights' places; they are counted once, with the model."""
        return [tf.TensorSpec(weight.shape, weight.dtype) for weight in weights]

    def spread(self, values: Sequence[Any]) -> Any:
        """The one replica's."""
        return values[0]

    def function(self, step: Callable[..., Any], jit: bool = False) -> Callable[..., Any]:
        """`step`, lowered once per signature."""
        lowered: dict[str, tuple[dict[str, Any], Any]] = {}

        def call(*args: Any) -> Any:
            specs = tf.nest.map_structure(_spec, args)
            key = str(tf.nest.flatten(specs)) + str(_structure(specs))
            if key not in lowered:
                lowered[key] = self.lower(step, specs)
            program, outputs = lowered[key]
            made = tf.nest.map_structure(lambda spec: Buffer(self, spec.shape, spec.dtype), outputs)
            use = program["uses"].setdefault(self.key, {"calls": 0, "held": 0})
            use["calls"] += 1
            use["held"] = max(use["held"], self.held)
            return made

        return call

    def summed(self, step: Callable[..., Any], jit: bool = False) -> Callable[..., Any]:
        """The same: with one replica sums are what it gives."""
        return self.function(step, jit)

    def lower(self, step: Callable[..., Any], specs: Any) -> tuple[dict[str, Any], Any]:
        """The program of a step for these arguments, written as StableHLO, and what it gives."""
        begun, worked = time.perf_counter(), time.process_time()
        given = [spec for spec in tf.nest.flatten(specs) if isinstance(spec, tf.TensorSpec)]
        # a step that reads weights without being given them is given all of them, in one trace
        weights = self.variables if self.reads else []
        outputs: list[Any] = []

        def pure(*xs: Any) -> Any:
            rest = iter(xs[len(weights) :])
            flat = [next(rest) if isinstance(s, tf.TensorSpec) else s for s in tf.nest.flatten(specs)]
            with keras.StatelessScope(list(zip(weights, xs[: len(weights)], strict=True))) as scope:
                out = step(*tf.nest.pack_sequence_as(specs, flat))
            changed = [scope.get_current_value(w) for w in weights]
            outputs.append(tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), out))
            return tf.nest.flatten(out), [new for new, old in zip(changed, xs, strict=False) if new is not old]

        signature = [*(tf.TensorSpec(w.shape, w.dtype) for w in weights), *given]
        ir = tf.function(pure, jit_compile=True, autograph=False).experimental_get_compiler_ir(*signature)
        text = unnamed(ir(stage="stablehlo", platform_name=self.platform))
        name = hashlib.sha256(text.encode()).hexdigest()[:16]
        if name not in self.programs:
            (self.folder / f"{name}.mlir").write_text(text)
            made = [spec for spec in tf.nest.flatten(outputs[0]) if isinstance(spec, tf.TensorSpec)]
            self.programs[name] = {
                "weights": _nbytes(signature[: len(weights)]),
                "arguments": _nbytes(given),
                "outputs": _nbytes(made),
                "module": len(text),
                "lowering": round(time.perf_counter() - begun, 1),
                "processor": round(time.process_time() - worked, 1),
                "uses": {},
            }
            print(f"{self.about} {name} {len(text) / 1e6:.1f} MB {self.programs[name]['lowering']} s", flush=True)
        return self.programs[name], outputs[0]

    def read(self) -> None:
        """Takes up what an earlier call lowered."""
        path = self.folder / "programs.json"
        if path.exists():
            found = json.loads(path.read_text())
            self.weights, self.plans, self.programs = found["weights"], found["plans"], found["programs"]
            self.errors = found["errors"]

    def write(self) -> None:
        """The list of programs, beside their modules."""
        found = {"platform": self.platform, "weights": self.weights, "plans": self.plans}
        found |= {"errors": self.errors, "programs": self.programs}
        (self.folder / "programs.json").write_text(json.dumps(found, indent=1))


def _nbytes(specs: Sequence[Any]) -> int:
    return sum(int(np.prod(s.shape.as_list(), dtype=np.int64)) * s.dtype.size for s in specs)


def _structure(specs: Any) -> Any:
    """The structure without its leaves."""
    return tf.nest.map_structure(lambda _: 0, specs)


def _spec(value: Any) -> Any:
    return tf.TensorSpec(value.shape, value.dtype) if hasattr(value, "shape") and hasattr(value, "dtype") else value


def main() -> None:
    """Lowers every step of every model that is named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--platform", default="TPU")
    parser.add_argument("--memory", type=float, default=15.75, help="GB of the device")
    parser.add_argument("--steps", nargs="*", help="only these (else all but receptive_field)")
    asked = parser.parse_args()
    from benchmarks.accelerators import steps

    precision("float32")
    device = Device(asked.folder, asked.platform)
    device.read()
    for name in steps.subjects_of(asked.models):
        subject = steps.subject_of(name)
        device.weights[name] = sum(int(np.prod(w.shape)) * 4 for w in subject.model.variables)
        steps.everything(device, subject, asked.memory * 1e9, asked.steps)
        if name != "foreign" and (not asked.steps or "training" in asked.steps):
            steps.training(device, name, asked.memory * 1e9)
            device.write()


if __name__ == "__main__":
    sys.modules["benchmarks.accelerators.lower"] = sys.modules["__main__"]
    main()
