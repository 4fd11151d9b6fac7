"""The feed: images on their devices before they are asked for, and each worker reads its own."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.faults.processes import cluster, finish, start
from tf_vitcnn.analyses.base import Picked
from tf_vitcnn.data.sources import open_source
from tf_vitcnn.devices.replicas import Replicas
from tf_vitcnn.devices.strategy import named_strategy
from tf_vitcnn.walk.feed import feed, micro_batches

COUNTED = Path(__file__).parents[1] / "faults" / "counted.py"


def fed(replicas, images=12, micro=2):
    indices = np.arange(images)
    positions = micro_batches(images, micro, replicas.count)
    return feed(open_source("noise:8"), Picked(indices, indices * 0), positions, [lambda x: x], replicas)


def test_the_next_images_are_under_way_before_these_are_computed_on():
    replicas = Replicas(named_strategy("cpu"))
    placed, begun = replicas.placed, []
    replicas.placed = lambda values: (begun.append(len(begun)), placed(values))[1]
    for step, _ in enumerate(fed(replicas)):
        assert begun[-1] == min(step + 1, 5)


def test_images_go_to_the_device_of_their_replica():
    replicas = Replicas(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
    replicas.kind = "GPU"  # CPUs share a memory: there nothing is moved
    batch = next(fed(replicas)).batch
    for tensor in (batch.images[0], batch.weight, batch.role):
        devices = [value.device for value in replicas.strategy.experimental_local_results(tensor)]
        assert [device[-5:] for device in devices] == ["CPU:0", "CPU:1"]
    here = replicas.strategy.experimental_local_results(batch.position)
    np.testing.assert_array_equal(np.concatenate(here), [0, 1, 2, 3])


@pytest.mark.slow
def test_each_of_two_workers_reads_its_own_images(tmp_path):
    flags = "--model vit_ti16@random --image-size 32 --data noise:32 --images 96 --batch 8 --strategy multiworker"
    words = ["analyze.py", "skip_ratio", *flags.split(), "--import", COUNTED, "--out", tmp_path]
    read = [tmp_path / f"{rank}.txt" for rank in range(2)]
    about = [{"TF_CONFIG": config, "READ_IMAGES": str(read[rank])} for rank, config in enumerate(cluster())]
    workers = [start(words, **each) for each in about]
    for status, said in [finish(worker) for worker in workers]:
        assert status == 0, said
    first, second = (path.read_text().split() for path in read)
    assert len(first) == len(second) == 48
    assert not set(first) & set(second) and len({*first, *second}) == 96
