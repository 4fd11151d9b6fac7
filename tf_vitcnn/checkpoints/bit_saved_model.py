"""BiT weights from SavedModels whose names are not unique (`group_norm/gamma` throughout): by order and shape.

The public bit_tf2 code makes, in each unit, norm a, conv a, norm b, conv b, norm c, conv c and the projection last.
Released order, and flax's sorted one, are tried as well; an order is taken only if every shape and last name agrees.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tf_vitcnn.checkpoints import bit_npz
from tf_vitcnn.checkpoints.found import Found
from tf_vitcnn.checkpoints.layouts import rows
from tf_vitcnn.errors import BadInput
from tf_vitcnn.models.specs import ResNetSpec, Spec

if TYPE_CHECKING:
    from tf_vitcnn.checkpoints.variables import Variable

LEAVES = ("kernel", "bias", "gamma", "beta")


def is_bit(variables: Sequence[Variable]) -> bool:
    """Whether kinds of names and the first kernel are a BiT-ResNet's."""
    named = any("group_norm" in v.name or "standardized_conv" in v.name for v in variables)
    return named and any(v.array.shape[:3] == (7, 7, 3) for v in variables)


def read(source: str, variables: Sequence[Variable], wanted: Spec | None) -> Found:
    """The checkpoint under released names, with its sizes."""
    spec, classes = _sizes(source, variables)
    for names in _orders(spec, classes):
        if len(names) == len(variables) and all(
            _fits(name, shape, v) for (name, shape), v in zip(names.items(), variables, strict=True)
        ):
            named = {name: v.array for name, v in zip(names, variables, strict=True)}
            return bit_npz.read(source, named)
    expected = f"a BiT-ResNet with {'-'.join(map(str, spec.units))} units"
    if isinstance(wanted, ResNetSpec) and wanted != spec:
        expected = f"the {'-'.join(map(str, wanted.units))} units of the architecture asked for"
    raise BadInput(f"{source}: {len(variables)} variables without unique names fit no known order; expected {expected}")


def _sizes(source: str, variables: Sequence[Variable]) -> tuple[ResNetSpec, int]:
    """Units and width from the 3 x 3 kernels, classes from the last bias."""
    roots = [v.array.shape for v in variables if v.array.shape[:3] == (7, 7, 3)]
    inner = Counter(v.array.shape[-1] for v in variables if v.array.shape[:2] == (3, 3))
    if not roots or not inner or roots[0][-1] % 32:
        raise BadInput(
            f"{source}: no BiT-ResNet: expected a kernel (7, 7, 3, 64 times the width factor) and kernels (3, 3, f, f)"
        )
    width = roots[0][-1] * 2 ** (len(inner) - 1) * 4  # channels of the last stage
    spec = ResNetSpec(tuple(inner[f] for f in sorted(inner)), bit_npz.factor(roots[0][-1]))
    kernels = [v.array.shape for v in variables if len(v.array.shape) > 1]
    if len(kernels) == 1 + 3 * sum(spec.units) + len(spec.units):
        return spec, 0
    # the last that reads all channels: the units that do come before it
    heads = [shape for shape in kernels if shape[-2] == width and set(shape[:-2]) <= {1}]
    return spec, heads[-1][-1] if heads else 0


def _fits(name: str, shape: tuple[int, ...], variable: Variable) -> bool:
    """Whether the variable can be that weight; a head may be a convolution over one pixel."""
    own = variable.array.shape
    return _agrees(name, variable) and (own == shape or ("/head/" in name and own == (1, 1, *shape)))


def _agrees(name: str, variable: Variable) -> bool:
    """Whether the last part of the variable's own name, if it says anything, is that of the weight."""
    own = (variable.name or variable.path).split("/")[-1]
    return own not in LEAVES or own == name.split("/")[-1]


def _orders(spec: ResNetSpec, classes: int) -> list[dict[str, tuple[int, ...]]]:
    """Names and shapes in each order that an exporter may have used."""
    shapes = {row.key: row.shape for row in rows(spec, (224, 224), classes)}
    released = list(shapes)
    last: list[str] = []
    held: list[str] = []
    for i, name in enumerate(released):
        if "/proj/" in name:
            held = [name]
            continue
        last.append(name)
        ends = name.endswith("/c/standardized_conv2d/kernel")
        if ends or i == len(released) - 1:
            last += held
            held = []
    return [{name: shapes[name] for name in order} for order in (last, released, sorted(released))]
