"""Cores at work: many problems at once have the solutions that each has alone."""

import numpy as np

from tf_vitcnn.devices import cores


def test_many_at_once():
    problems = [lambda n=n: np.linalg.eigh(np.diag(np.arange(1.0, n)))[0].sum() for n in range(2, 12)]
    assert cores.solved(problems) == [problem() for problem in problems]
    assert cores.solved(problems[:1]) == [problems[0]()]


def test_what_multiplies_bfloat16_best():
    for units, product in ((True, "narrow"), (False, "float32")):
        assert cores.bfloat16_product("GPU", units) == cores.bfloat16_product("TPU", units) == "wide"
        assert cores.bfloat16_product("CPU", units) == product


def test_whether_bfloat16_is_faster_is_measured_once_and_stays():
    found = cores.bfloat16_units()
    again = cores.bfloat16_units.__wrapped__()
    assert found is cores.bfloat16_units() is again
    assert cores.bfloat16_units.cache_info().misses == 1
