"""What this machine is: its memory and containers, the precision of its products, who is who among workers."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import tensorflow as tf

from tests import toys
from tf_vitcnn.analyses.base import Run
from tf_vitcnn.analyses.cka.analysis import CKA
from tf_vitcnn.analyses.skip_ratio.analysis import SkipRatio
from tf_vitcnn.devices import memory, strategy
from tf_vitcnn.devices.precision import in_precision
from tf_vitcnn.devices.replicas import Replicas
from tf_vitcnn.devices.room import Room
from tf_vitcnn.devices.strategy import kind_of, named_strategy, own_and_others
from tf_vitcnn.engine import door, session
from tf_vitcnn.errors import BadInput
from tf_vitcnn.walk.plan import plan_grams, plan_images

ROOT = Path(__file__).parents[2]
tf32 = tf.config.experimental.tensor_float_32_execution_enabled

# --- memory ---


def control_groups(root, groups):
    """A tree of files as Linux shows them; `groups` {path below /sys/fs/cgroup: (limit, usage, cache)}."""
    for path, (limit, usage, cache) in groups.items():
        folder = root / "sys/fs/cgroup" / path
        folder.mkdir(parents=True, exist_ok=True)
        first = path.split("/")[0] == "memory"
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if first else ("memory.max", "memory.current")
        (folder / names[0]).write_text(f"{limit}\n")
        (folder / names[1]).write_text(f"{usage}\n")
        (folder / "memory.stat").write_text(f"anon 7\ninactive_file {cache}\ntotal_inactive_file {cache}\n")
    return root


@pytest.mark.parametrize(
    ("own", "groups", "room"),
    [
        ("0::/", {"": (4e9, 1e9, 2.5e8)}, [3.25e9]),  # a container of version 2
        ("0::/a/b", {"a/b": ("max", 1e9, 0), "a": (3e9, 1e9, 0)}, [2e9]),  # the group above is the one with a limit
        ("0::/a", {"a": (1e9, 2e9, 0)}, [0]),
        ("4:memory:/x\n5:cpu:/", {"memory": (2**63, 5e9, 0), "memory/x": (6e9, 2e9, 1e9)}, [5e9, 2**63 - 5e9]),
        ("4:memory:/docker/1", {"memory": (6e9, 2e9, 1e9)}, [5e9]),  # its own group is the root of what it sees
        ("0::/", {}, []),
    ],
)
def test_a_containers_limit_less_what_it_holds(tmp_path, own, groups, room):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(own + "\n")
    assert list(memory._containers(control_groups(tmp_path, groups))) == room


def test_elsewhere_than_on_linux_there_are_no_containers(tmp_path):
    assert list(memory._containers(tmp_path)) == []


def test_a_run_may_take_part_of_what_its_container_leaves(monkeypatch):
    monkeypatch.setattr(memory, "_containers", lambda root: [1e9])
    assert memory.limit(None, named_strategy("cpu")) == 0.6e9
    monkeypatch.setattr(memory, "_containers", lambda root: [1e15])
    free = psutil.virtual_memory().available
    assert memory.limit(None, named_strategy("cpu")) == pytest.approx(0.6 * free, rel=0.2)
    assert memory.limit(3, named_strategy("cpu")) == 3e9
    with pytest.raises(BadInput, match="--memory 0"):
        memory.limit(0, named_strategy("cpu"))


def test_the_least_free_accelerator_decides_where_there_are_some(monkeypatch):
    monkeypatch.setattr(memory, "kind_of", lambda strategy: "GPU")
    monkeypatch.setattr(memory, "devices_of", lambda strategy: ("a", "b"))
    monkeypatch.setattr(memory, "_accelerator", lambda name, kind: {"a": 80e9, "b": 40e9}[name])
    assert memory.limit(None, named_strategy("cpu")) == 0.8 * 40e9
    monkeypatch.setattr("tf_vitcnn.devices.strategy.kind_of", lambda strategy: "GPU")
    monkeypatch.setattr(memory, "machine", lambda: 10e9)
    cores = len(psutil.Process().cpu_affinity())  # a container may have fewer than the machine
    assert Room.found(None, named_strategy("cpu")) == Room(32_000_000_000, 6_000_000_000, cores, 0)


def test_a_devices_memory_is_asked_of_tensorflow():
    (name,) = strategy.devices_of(named_strategy("cpu"))
    assert 0 < memory._accelerator(name, "CPU") <= 2**28  # what TensorFlow says of every CPU, less what is in use
    assert memory._accelerator("/job:localhost/replica:0/task:0/device:TPU:0", "TPU") == memory.TPU


def expected(sharing):
    vit = toys.shared("vit")
    bound = Run((vit,), (tuple(t for t in vit.taps if t.endswith("resid/post")),), images=4096, batch=1024)
    grams = plan_grams([CKA()], [bound], 1e15, sharing)
    return grams.expected, plan_images(bound, bound.taps[0], 1e15, SkipRatio(), sharing).expected


def test_replicas_multiply_what_is_taken_of_a_memory_they_share():
    both = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert (Replicas(both).kind, Replicas(both).sharing) == ("CPU", 2)
    for one, two in zip(expected(1), expected(2), strict=True):
        assert two > one
    apart = Replicas(both)
    apart.sharing = 1
    assert expected(apart.sharing) == expected(1)


def test_replicas_on_accelerators_share_nothing(monkeypatch):
    monkeypatch.setattr("tf_vitcnn.devices.replicas.kind_of", lambda strategy: "TPU")
    assert Replicas(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])).sharing == 1


# --- what float32 means ---


@pytest.fixture
def faster():
    before = tf32()
    tf.config.experimental.enable_tensor_float_32_execution(True)
    yield
    tf.config.experimental.enable_tensor_float_32_execution(before)


STRATEGIES = {
    "cpu": lambda: "cpu",
    "mirrored": lambda: "mirrored",
    "gpu": lambda: "gpu",
    "tpu": lambda: "tpu",
    "multiworker": lambda: "multiworker",
    "an object": lambda: tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]),
    "the default": tf.distribute.get_strategy,
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_float32_is_float32_under_every_strategy(name, faster, monkeypatch):
    if name in ("gpu", "tpu", "multiworker"):  # not to be had here: what follows their names is a CPU's
        monkeypatch.setattr(session, "named_strategy", lambda name: tf.distribute.OneDeviceStrategy("/cpu:0"))
    seen = []
    monkeypatch.setattr("tf_vitcnn.walk.images.PerImageWalk.__call__", watched(seen))
    table = door.run("skip_ratio", toys.shared("vit"), "digits:test", images=4, strategy=STRATEGIES[name]())
    assert seen == [False]
    assert tf32()  # the caller's own choice stands again
    assert table.attrs["sidecar"]["environment"]["compute"] == "float32"


def watched(seen):
    from tf_vitcnn.walk.images import PerImageWalk

    call = PerImageWalk.__call__

    def asked(self, *args):
        seen.append(tf32())
        return call(self, *args)

    return asked


def test_a_refused_run_leaves_the_switch_alone(faster):
    with pytest.raises(BadInput):
        door.run("skip_ratio", toys.shared("vit"), "digits:test", images=99999)
    assert tf32()


@pytest.mark.parametrize(("compute", "switch"), [("float32", False), ("tensorfloat32", True), ("bfloat16", False)])
def test_faster_products_only_by_name(compute, switch, faster):
    with in_precision(compute):
        assert tf32() is switch


@pytest.mark.parametrize(("compute", "said"), [("float32", True), ("bfloat16", True), ("tensorfloat32", False)])
def test_a_compiled_product_is_asked_for_at_highest_precision(compute, said, faster):
    """Without these words XLA lowers it for a TPU at default precision: bfloat16."""
    with in_precision(compute):
        product = tf.function(lambda x: tf.matmul(x, x), jit_compile=True)
        program = product.experimental_get_compiler_ir(tf.zeros([8, 8]))(stage="hlo")
    assert ("operand_precision={highest,highest}" in program) is said


QUIET = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": 300, "check": False}

# --- what decides is the device that computes ---


def beside_a_gpu(monkeypatch):
    """This machine as if it had a GPU too."""
    listed = tf.config.list_physical_devices, tf.config.list_logical_devices

    def with_gpu(original):
        return lambda kind=None: [SimpleNamespace(name="GPU:0")] if kind == "GPU" else original(kind)

    monkeypatch.setattr(tf.config, "list_physical_devices", with_gpu(listed[0]))
    monkeypatch.setattr(tf.config, "list_logical_devices", with_gpu(listed[1]))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_cpu_beside_a_gpu_computes_as_a_cpu(monkeypatch, precision):
    setting = {"images": 16, "batch": 8, "repeats": 1, "precision": precision, "strategy": "cpu"}
    monkeypatch.setattr("tf_vitcnn.devices.cores.bfloat16_units", lambda: False)
    alone = door.run("cka", toys.shared("vit"), "digits:test", **setting)
    beside_a_gpu(monkeypatch)
    assert door.run("cka", toys.shared("vit"), "digits:test", **setting).equals(alone)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_metric_of_tensors_on_a_cpu_beside_a_gpu(monkeypatch, precision):
    from tf_vitcnn.stats.minibatch_cka import MinibatchCKA

    layers = [tf.random.stateless_normal([12, 30], [i, 0]) for i in range(3)]

    def found():
        metric = MinibatchCKA(precision)
        metric.update_state(layers)
        return metric.result().numpy().tolist()

    alone = found()
    beside_a_gpu(monkeypatch)
    assert found() == alone


def test_an_accelerator_takes_no_host_path(monkeypatch):
    from tf_vitcnn.walk import gram_sums

    monkeypatch.setattr(gram_sums, "LARGE", 0)
    vit = toys.shared("vit")
    bound = Run((vit,), (("block00/resid/post",),), images=16, batch=8)

    def on_host(kind):
        replicas = Replicas(named_strategy("cpu"))
        replicas.kind = kind
        sums = gram_sums.GramSums(CKA(), bound, replicas)
        sums.pivot(0, {"block00/resid/post": tf.ones([4, 7, 16])})
        return sums.on_host(0)

    assert [on_host(kind) for kind in ("CPU", "GPU", "TPU")] == [True, False, False]


def test_kinds():
    assert kind_of(named_strategy("cpu")) == kind_of(tf.distribute.get_strategy()) == "CPU"
    assert kind_of(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])) == "CPU"


# --- workers ---


def config(kind, index, **cluster):
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


def test_a_chief_stands_beside_the_workers():
    assert own_and_others(config("chief", 0, chief=["a:1"], worker=["b:1", "c:1"])) == ("a:1", ["b:1", "c:1"])
    assert own_and_others(config("worker", 0, chief=["a:1"], worker=["b:1"])) == ("b:1", ["a:1"])
    assert own_and_others(config("worker", 1, worker=["a:1", "b:1"])) == ("b:1", ["a:1"])
    assert own_and_others(config("chief", 0, chief=["a:1"])) == ("a:1", [])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        config("worker", 2, worker=["a:1", "b:1"]),
        config("worker", -1, worker=["a:1"]),
        config("chief", 0, worker=["a:1"]),
        config("ps", 0, worker=["a:1"], ps=["b:1"]),
        json.dumps({"cluster": {"worker": ["a:1"]}}),
    ],
)
def test_a_config_that_is_none_is_one_line(text):
    with pytest.raises(BadInput, match="TF_CONFIG"):
        own_and_others(text)


@pytest.mark.slow
def test_a_chief_and_a_worker_give_the_table_of_one(tmp_path):
    words = ["cka", "--model", "vit_ti16@random", "--image-size", "32", "--data", "digits:test", "--images", "40"]
    words += ["--batch", "10", "--repeats", "1", "--taps", "block0[01]/*"]

    def start(out, **environment):
        command = [sys.executable, str(ROOT / "scripts/analyze.py"), *words, "--out", str(tmp_path / out)]
        if environment:
            command += ["--strategy", "multiworker"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT), **environment}, text=True, **pipes)

    chief, worker = ([f"127.0.0.1:{port}"] for port in free_ports(2))
    jobs = [start("two", TF_CONFIG=config(kind, 0, chief=chief, worker=worker)) for kind in ("chief", "worker")]
    for job in [*jobs, start("one")]:
        _, said = job.communicate(timeout=300)
        assert job.returncode == 0, said
    import numpy as np

    import tf_vitcnn
    from tf_vitcnn.stats.resample import standard_error

    two, one = (tf_vitcnn.read_table(tmp_path / out / "cka/vit_ti16.csv") for out in ("two", "one"))
    np.testing.assert_allclose(two.cka, one.cka, atol=2e-5)
    errors = [standard_error(table.attrs["groups"]["cka"]) for table in (two, one)]  # printed with three digits
    np.testing.assert_allclose(*errors, atol=2e-5)


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


# --- other systems ---


@pytest.mark.slow
def test_the_package_is_imported_without_what_only_unix_has():
    code = """
import importlib, os, pkgutil, sys
import etils.epath, filelock, keras, psutil, scipy.linalg, sklearn.datasets, tensorflow, threadpoolctl, tqdm
for name in ("fcntl", "resource"):
    sys.modules[name] = None
del os.sysconf, os.sched_getaffinity
import tf_vitcnn
for module in pkgutil.walk_packages(tf_vitcnn.__path__, "tf_vitcnn."):
    importlib.import_module(module.name)
from tf_vitcnn.devices import cores, memory, start
start.keep_memory()
assert cores.count() > 0 and memory.machine() > 0
"""
    done = subprocess.run([sys.executable, "-c", code], **QUIET)
    assert done.returncode == 0, done.stderr
