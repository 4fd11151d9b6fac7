"""benchmarks/accelerators: steps lowered through the project's own walks, and what is amiss in a module seen."""

import json

import pytest

from benchmarks.accelerators.modules import amiss, readable
from tests import toys


@pytest.fixture(scope="module")
def lowered(tmp_path_factory):
    """CKA of a toy transformer, lowered for CPUs: the stock TensorFlow has no kernels of TPUs."""
    from benchmarks.accelerators import lower, steps
    from tf_vitcnn import analyses

    folder = tmp_path_factory.mktemp("lowered")
    device, subject = lower.Device(folder, "CPU"), toys.vit(depth=6)
    device.kind = "CPU"  # no product of bfloat16 that widens
    device.variables = list(subject.model.variables)
    device.about = {"model": "toy", "step": "cka", "precision": "float32"}
    steps.MINIBATCH = 8
    asked = analyses.find("cka")(repeats=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(asked), "batch", 8)
        steps.analysis(device, asked, subject, 4e9)
    assert device.held == 0  # nothing outlives the walk
    device.write()
    return folder


def test_equal_blocks_are_one_program(lowered):
    programs = json.loads((lowered / "programs.json").read_text())["programs"]
    calls = [use["calls"] for program in programs.values() for use in program["uses"].values()]
    assert len(programs) < 20 and max(calls) > 6


def test_what_is_held_covers_arguments_and_the_widest_step(lowered):
    programs = json.loads((lowered / "programs.json").read_text())["programs"]
    for program in programs.values():
        assert all(use["held"] > 0 for use in program["uses"].values())


def test_modules_of_float32_are_clean(lowered):
    for path in lowered.glob("*.mlir"):
        text = path.read_text()
        assert [what for what in amiss(text, "float32") if "HIGHEST" not in what] == []


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("%1 = stablehlo.add %0, %0 : tensor<4xf64>", "float64"),
        ("%1 = stablehlo.add %0, %0 : tensor<?x4xf32>", "a dynamic dimension"),
        ("%1 = stablehlo.custom_call @xla_python_cpu_callback(%0) : (tensor<4xf32>) -> tensor<4xf32>", "custom call"),
        (
            "%1 = stablehlo.dot_general %0, %0, precision = [DEFAULT] : (tensor<4xf32>) -> tensor<f32>",
            "1 of 1",
        ),
    ],
)
def test_what_a_module_may_not_hold_is_named(line, what):
    assert amiss(line, "float32")[0].startswith(what)


def test_constants_of_bits_are_written_as_bytes():
    given = '%0 = stablehlo.constant dense<"0x0503"> : tensor<2x5xi1>'
    assert readable(given) == '%0 = stablehlo.constant dense<"0x01000100000000000101"> : tensor<2x5xi1>'
