"""Lowered programs compiled by the devices' own compilers, without the devices: `compiled-TARGET.json` in the folder.

    python benchmarks/accelerators/compile.py FOLDER [--target v5e] [--effort low|default]

Needs jax with libtpu (v5e, v4, v6e), or with the CUDA plugin and its compiler (h100). What is compiled already stays.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ.update(JAX_PLATFORMS="cpu", TF_CPP_MIN_LOG_LEVEL="2", TPU_SKIP_MDS_QUERY="1")
os.environ.update(TPU_ACCELERATOR_TYPE="v5litepod-4", TPU_WORKER_HOSTNAMES="localhost")
os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "true"  # no device is taken: several processes may look

sys.path.insert(0, str(Path(__file__).parents[2]))

import jax  # noqa: F401
import numpy as np
from jax._src.interpreters import mlir
from jax._src.lib import _jax
from jax._src.lib import xla_client as xc
from jax._src.lib.mlir import ir
from jax.experimental import topologies

from benchmarks.accelerators.modules import readable

TOPOLOGY = {"v5e": "v5e:2x2", "v4": "v4:2x2x1", "v6e": "v6e:2x2"}
H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  shared_memory_per_block: 49152 shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98 device_memory_size: 84942979072
  cuda_compute_capability { major: 9 minor: 0 }
}
platform_name: "CUDA" dnn_version_info { major: 9 minor: 1 patch: 0 } device_description_str: "NVIDIA H100 80GB HBM3"
"""


def device_of(target: str) -> Any:
    """One device of the named kind, known to its compiler."""
    if target == "h100":
        found = topologies.get_topology_desc(
            platform="cuda", topology_name="x", topology="1x1x1", target_config=H100.replace("\n", " ")
        )
    else:
        more = {"chip_config_name": "megacore"} if target == "v4" else {}
        found = topologies.get_topology_desc(TOPOLOGY[target], platform="tpu", **more)
    return found.devices[0]


def compiled(device: Any, module: str, effort: str) -> dict[str, Any]:
    """What the compiler says of a module: bytes, operations, seconds; or why it refused."""
    options = xc.CompileOptions()
    build = options.executable_build_options
    build.device_assignment = xc.DeviceAssignment.create(np.array([[device.id]], np.int32))
    if effort == "low":  # several times sooner; the same memory but for temporaries
        build.exec_time_optimization_effort = build.memory_fitting_effort = -1.0
    begun = time.perf_counter()
    try:
        with mlir.make_ir_context():
            exe = device.client.compile(ir.Module.parse(readable(module)), _jax.DeviceList((device,)), options)
    except Exception as error:  # whatever a compiler raises is the finding
        return {"error": str(error)[:600]}
    memory, cost = exe.get_compiled_memory_stats(), exe.cost_analysis() or {}
    return {
        "seconds": round(time.perf_counter() - begun, 1),
        "arguments": memory.argument_size_in_bytes,
        "outputs": memory.output_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        "peak": getattr(memory, "peak_memory_in_bytes", 0),
        "flop": cost.get("flops"),
        "bytes": cost.get("bytes accessed"),
    }


def main() -> None:
    """Compiles every program that is not compiled yet, each distinct one once, several at a time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--target", default="v5e", choices=[*TOPOLOGY, "h100"])
    parser.add_argument("--effort", default="low", choices=["low", "default"])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--largest", type=float, default=math.inf, help="megabytes of a module")
    parser.add_argument("--only", nargs="*", default=[], help="steps or models")
    asked = parser.parse_args()
    begun, worked = time.perf_counter(), time.process_time()
    programs = json.loads((asked.folder / "programs.json").read_text())["programs"]
    path = asked.folder / f"compiled-{asked.target}.json"
    found = json.loads(path.read_text()) if path.exists() else {}

    def wanted(name: str) -> bool:
        uses = [json.loads(use) for use in programs[name]["uses"]]
        named = any(not asked.only or use["step"] in asked.only or use["model"] in asked.only for use in uses)
        return named and "error" in found.get(name, {"error": ""}) and programs[name]["module"] < asked.largest * 1e6

    todo = sorted(filter(wanted, programs), key=lambda name: programs[name]["module"])  # the quick ones first
    device = device_of(asked.target)
    with ThreadPoolExecutor(asked.jobs) as pool:  # one process: libtpu lets no second one in
        texts = ((asked.folder / f"{name}.mlir").read_text() for name in todo)
        for name, said in zip(todo, pool.map(lambda text: compiled(device, text, asked.effort), texts), strict=True):
            found[name] = said
            use = json.loads(next(iter(programs[name]["uses"]), "{}"))
            print(asked.target, use.get("model"), use.get("step"), name, said, flush=True)
            path.write_text(json.dumps(found, indent=1))
    spent = f"{time.perf_counter() - begun:.0f} s, {time.process_time() - worked:.0f} of a processor"
    print(f"{len(todo)} programs compiled in {spent}")


if __name__ == "__main__":
    main()
