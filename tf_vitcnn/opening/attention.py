"""Attention recognised by its structure: products of queries and keys, a softmax over keys, a product with values.

Between the products and the softmax there may be scales, biases, masks, and reshapes that leave queries and keys their
axes. What is found is shown as in our own ViT: q, k, v, mixed [b, t, n, e], q and k before a scale; scores, probs
[b, n, q, k]. Attention in windows has an axis of windows after the images: [b, w, n, q, k].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from keras import ops

from tf_vitcnn.models.layers import Einsum
from tf_vitcnn.opening.applied import Applied
from tf_vitcnn.opening.graph import Node, Tensor, node_of
from tf_vitcnn.opening.links import SAME, Links, has_kernel, kind
from tf_vitcnn.opening.trace import NORMS

PARTS = ("q", "k", "v", "q_norm", "k_norm", "q_rot", "k_rot", "scores", "probs", "mixed")
BETWEEN = (
    *("Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Where", "Cast", "Reshape", "Tanh", "Clip", "Maximum"),
    *("Minimum", "Identity", "Dropout", "NanToNum"),
)
SCALES = ("Multiply", "Divide", "TrueDivide")


class Part(NamedTuple):
    """A tensor, and what its axes are: b images, w windows, n heads, q queries, k keys, e channels."""

    tensor: Tensor
    axes: str


class Core(NamedTuple):
    """One attention: its parts by name, and its softmax."""

    parts: dict[str, Part]
    softmax: Node


def cores(links: Links) -> list[Core]:
    """Every attention of a graph, in depth order."""
    found = (_core(links, node) for node in links.nodes if _is_softmax(node))
    return [core for core in found if core]


def _is_softmax(node: Node) -> bool:
    named = getattr(getattr(node.operation, "activation", None), "__name__", "")
    shape = node.outputs[0].shape
    is_softmax = kind(node) == "Softmax" or (kind(node) == "Activation" and named == "softmax")
    axis = getattr(node.operation, "axis", -1)
    axis = axis[0] if isinstance(axis, list | tuple) and len(axis) == 1 else axis
    return is_softmax and len(shape) in (3, 4, 5) and axis in (-1, len(shape) - 1)


def _core(links: Links, softmax: Node) -> Core | None:
    scores, probs = softmax.input_tensors[0], softmax.outputs[0]
    first = _product_before(links, scores)
    second = _product_after(links, probs)
    if first is None or second is None:
        return None
    mixing, probs_side = second
    one, two = _operands(first), _operands(mixing)
    if one is None or two is None or len(one[2]) < 3:
        return None
    parts = _named(first, one) | _mixed(mixing, two, probs_side)
    if len(parts) < 3:
        return None
    for side in {"q", "k"} & set(parts):
        parts |= _stages(links, side, parts[side])
    leading = "bwn"[: len(scores.shape) - 2] if len(scores.shape) == 5 else "bn"[: len(scores.shape) - 2]
    parts |= {"scores": Part(scores, f"{leading}qk"), "probs": Part(probs, f"{leading}qk")}
    return Core({name: parts[name] for name in PARTS if name in parts}, softmax)


def _product_before(links: Links, tensor: Tensor) -> Node | None:
    """The product of two tensors that scores come from."""
    stack, keys = [tensor], tensor.shape[-2:]
    for _ in range(40):
        node = links.maker.get(id(stack.pop())) if stack else None
        if node is None:
            continue
        if _is_product(node) and node.outputs[0].shape[-2:] == keys:
            return node
        if kind(node) in BETWEEN:
            stack += reversed(node.input_tensors)
    return None


def _product_after(links: Links, tensor: Tensor) -> tuple[Node, Tensor] | None:
    """The product of probabilities with values, and the tensor of probabilities that it reads."""
    stack = [tensor]
    for _ in range(20):
        if not stack:
            break
        t = stack.pop()
        for node in links.readers.get(id(t), []):
            if _is_product(node):
                return node, t
            if kind(node) in BETWEEN and node.outputs[0].shape[-1] == tensor.shape[-1]:
                stack += node.outputs
    return None


def _is_product(node: Node) -> bool:
    if kind(node) not in ("Matmul", "Einsum"):
        return False
    # the queries of a probe are the same for every image: there keys come alone
    return len(node.input_tensors) == 2 or _alone(node) == 1


def _operands(node: Node) -> tuple[str, str, str] | None:
    """Letters for the axes of a product's two inputs and its output."""
    operation, alone = node.operation, len(node.input_tensors) == 1
    if kind(node) == "Matmul":
        ranks = [len(t.shape) for t in node.input_tensors]
        outer = "uvwxyz"[: len(node.outputs[0].shape) - 2]
        first, second, right = (outer + "ij")[-ranks[0] :], (outer + "jk")[-ranks[-1] :], outer + "ik"
    else:
        operation = operation.operation if isinstance(operation, Applied) else operation
        equation = operation.equation if isinstance(operation, Einsum) else operation.subscripts
        left, _, right = equation.replace(" ", "").partition("->")
        first, _, second = left.partition(",")
        if "..." in equation or not right:
            return None
    return (second, "", right) if alone else (first, second, right)


def _alone(node: Node) -> int | None:
    """The place among the factors of the only one that is computed from images."""
    return node.operation.template[0].index("@input0") if isinstance(node.operation, Applied) else None


def _named(node: Node, letters: tuple[str, str, str]) -> dict[str, Part]:
    """Queries and keys: the last two axes of the product are theirs."""
    q, k = letters[2][-2], letters[2][-1]
    names = _outer(letters[2][:-2]) | {q: "q", k: "k"}
    found = {}
    for tensor, own in zip(node.input_tensors, letters, strict=False):
        side = "q" if q in own else "k" if k in own else None
        rest = [letter for letter in own if letter not in names]
        if side is None or len(rest) > 1 or (side == "q" and len(node.input_tensors) == 1):
            return {}
        axes = "".join(names.get(letter, "e") for letter in own)
        found[side] = _unscaled(Part(tensor, axes))
    return found


def _mixed(node: Node, letters: tuple[str, str, str], probs: Tensor) -> dict[str, Part]:
    """Values and what is mixed of them; the last two axes of the probabilities are queries and keys."""
    side = next(i for i, t in enumerate(node.input_tensors) if t is probs)
    q, k = letters[side][-2], letters[side][-1]
    names = _outer(letters[side][:-2]) | {q: "q", k: "k"}
    own = letters[1 - side]
    if k not in own or q in own or len([letter for letter in own if letter not in names]) > 1:
        return {}
    spelled = ["".join(names.get(letter, "e") for letter in axes) for axes in (own, letters[2])]
    return {"v": Part(node.input_tensors[1 - side], spelled[0]), "mixed": Part(node.outputs[0], spelled[1])}


def _outer(letters: str) -> dict[str, str]:
    """The axes before queries and keys: images, windows, heads."""
    return dict(zip(letters, {1: "b", 2: "bn", 3: "bwn"}.get(len(letters), ""), strict=False))


def _unscaled(part: Part) -> Part:
    """What was multiplied by a number, and moved, before the product."""
    tensor, axes = part
    best = part
    for _ in range(4):
        node = node_of(tensor)
        if kind(node) in SCALES and len(node.input_tensors) == 1 and _by_number(node):
            tensor = node.input_tensors[0]
            best = Part(tensor, axes)
        elif kind(node) == "Transpose" and len(node.input_tensors) == 1:
            order = node.operation.axes or tuple(range(len(axes)))[::-1]
            axes = "".join(axes[list(order).index(i)] for i in range(len(axes)))
            tensor = node.input_tensors[0]
        else:
            break
    return best


def _stages(links: Links, side: str, last: Part) -> dict[str, Part]:
    """Queries or keys as they were projected, after their norm, and after their positions were turned into them."""
    earlier = sorted((links.made(key), key) for key in links.before(last.tensor) if key in links.maker)
    kernels = [place for place, key in earlier if has_kernel(links.maker[key])]
    same = []
    for place, key in earlier:
        node = links.maker[key]
        tensor = next(t for t in node.outputs if id(t) == key)
        if place >= max(kernels, default=0) and (part := _like(Part(tensor, last.axes), last.tensor.shape)):
            same.append((node, part))
    first = next(
        (part for node, part in same if kind(node) in SAME or has_kernel(node) or kind(node) == "GetItem"), last
    )
    found = {side: first}
    norms = [
        part for node, part in same if isinstance(node.operation, NORMS) and not links.same(part.tensor, first.tensor)
    ]
    if norms:
        found[f"{side}_norm"] = norms[-1]
    turned = any(kind(node) in ("Add", "Subtract") for node in links.inside(last.tensor, id(first.tensor)))
    if turned and not any(links.same(last.tensor, part.tensor) for part in found.values()):
        found[f"{side}_rot"] = last
    return found


def _like(part: Part, shape: tuple[int | None, ...]) -> Part | None:
    """A tensor of a shape, or of one with heads and tokens the other way round."""
    own = part.tensor.shape
    if own == shape:
        return part
    swapped = (*shape[:-3], shape[-2], shape[-3], shape[-1]) if len(shape) >= 4 else ()
    return (
        Part(part.tensor, f"{part.axes[:-3]}{part.axes[-2]}{part.axes[-3]}{part.axes[-1]}") if own == swapped else None
    )


def _by_number(node: Node) -> bool:
    held = getattr(node.operation, "held", [])
    return all(len(value.shape) == 0 or set(value.shape) == {1} for value in held)


def shown(part: Part, rows: int, windows: int, name: Callable[[Tensor], Tensor]) -> Tensor:
    """A part with its axes in our order; where axes of `rows` in all are folded into the images, they are unfolded.

    They are `windows`, or heads, or both. `name` is told every tensor that is new.
    """
    tensor, axes = part
    pair = axes.endswith("qk") and "e" not in axes
    if rows > 1:
        heads = 1 if "n" in axes else rows // windows
        folded = {"w": rows // heads, "n": heads}
        folded = {axis: size for axis, size in folded.items() if size > 1}
        axes = axes.replace("b", "b" + "".join(folded), 1)
        tensor = name(ops.reshape(tensor, _unfolded(tensor.shape, part.axes.index("b"), tuple(folded.values()))))
    token = "q" if "q" in axes else "k"
    wanted = "bwnqk" if pair else f"bw{token}ne"
    order = [axes.index(axis) for axis in wanted if axis in axes]
    if order != sorted(order):
        tensor = name(ops.transpose(tensor, order))
    if "n" not in axes:  # one head
        shape = [-1 if size is None else size for size in tensor.shape]
        at = (1 if pair else 2) + ("w" in axes)
        tensor = name(ops.reshape(tensor, (*shape[:at], 1, *shape[at:])))
    return tensor


def _unfolded(shape: tuple[int | None, ...], axis: int, folded: tuple[int, ...]) -> tuple[int, ...]:
    sizes = [-1 if size is None else size for size in shape]
    return (*sizes[:axis], -1, *folded, *sizes[axis + 1 :])
