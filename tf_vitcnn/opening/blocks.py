"""Names for what the structure shows: a transformer's or a mixer's blocks, a ResNet's units, what leads in and out.

A block is a residual addition after attention (or after mixing of tokens) and one after an MLP, on one stream. A unit
is a residual addition on a map after two or three convolutions; stages are runs of units on grids of one size. A
network that has other residual additions on its stream as well keeps the paths of its calls: half a grammar misleads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tf_vitcnn.opening.attention import Core
from tf_vitcnn.opening.graph import Node, Tensor
from tf_vitcnn.opening.links import Links, Residual, adds_two, has_kernel, kind
from tf_vitcnn.opening.trace import NORMS

ACTIVATIONS = (
    *("Activation", "ReLU", "LeakyReLU", "PReLU", "ELU", "Relu", "Relu6", "Gelu", "Silu", "Sigmoid", "Tanh"),
    *("HardSwish", "HardSilu"),
)
POOLS = ("MaxPooling2D", "AveragePooling2D", "MaxPool", "AveragePool")
LAST_POOLS = (
    *("GlobalAveragePooling2D", "GlobalAveragePooling1D", "Mean", "GlobalMaxPooling2D", "GlobalMaxPooling1D"),
    *("GetItem", "Take"),
)


@dataclass
class Anatomy:
    """The residual additions of a graph, what each one's branch does, and the blocks they make."""

    links: Links
    cores: Sequence[Core]
    residuals: list[Residual] = field(init=False)
    does: list[str] = field(init=False)  # attn, mix, mlp, conv or other

    def __post_init__(self) -> None:
        found = (self.links.residual(node) for node in self.links.nodes if adds_two(node))
        self.residuals = [residual for residual in found if residual]
        self.does = [self._does(residual) for residual in self.residuals]

    def branch(self, residual: Residual) -> list[Node]:
        """The calls of a residual addition's branch, in order."""
        fork = self.links.fork(residual.skip, residual.branch)
        return [] if fork is None else self.links.inside(residual.branch, fork)

    def core_of(self, nodes: Sequence[Node]) -> Core | None:
        """The only attention among some calls."""
        found = [core for core in self.cores if any(node is core.softmax for node in nodes)]
        return found[0] if len(found) == 1 else None

    def _does(self, residual: Residual) -> str:
        nodes = self.branch(residual)
        if any(core.softmax is node for core in self.cores for node in nodes):
            return "attn"
        kernels = [node for node in nodes if has_kernel(node)]
        tokens = len(residual.branch.shape) == 3
        if not tokens and any(is_convolution(node) and max(node.operation.kernel_size) > 1 for node in kernels):
            return "conv"
        turned = [node for node in nodes if kind(node) in ("Transpose", "Permute", "Swapaxes", "SwapAxes")]
        if turned and tokens and not any(map(is_convolution, kernels)):
            return "mix"
        return "mlp" if len(kernels) in (2, 3) else "other"

    def blocks(self) -> list[tuple[Residual, Residual]]:
        """Pairs of additions on one stream, the first after mixing of tokens, the second after an MLP."""
        pairs: list[tuple[Residual, Residual]] = []
        for i in range(len(self.residuals) - 1):
            first, second = self.residuals[i : i + 2]
            paired = self.does[i] in ("attn", "mix") and self.does[i + 1] == "mlp"
            if not paired or not self.links.same(second.skip, first.node.outputs[0]):
                continue
            if pairs and id(pairs[-1][1].node.outputs[0]) not in self.links.before(first.skip):
                break  # another tower
            pairs.append((first, second))
        return pairs

    def units(self) -> list[Residual]:
        """Every addition, if all of them are a ResNet's."""
        for residual, does in zip(self.residuals, self.does, strict=True):
            kernels = [node for node in self.branch(residual) if has_kernel(node)]
            plain = all(type(n.operation).__name__.endswith("Conv2D") and "Depth" not in kind(n) for n in kernels)
            if does != "conv" or not plain or len(kernels) not in (2, 3) or len(residual.branch.shape) != 4:
                return []
        return self.residuals if len(self.residuals) > 1 else []


def cores_after(anatomy: Anatomy, stream: Tensor) -> list[Core]:
    """Where one query gathers from the tokens that a stream leads to."""
    after = (core for core in anatomy.cores if id(stream) in anatomy.links.before(core.parts["k"].tensor))
    return [core for core in after if core.parts["probs"].tensor.shape[-2] == 1]


def is_convolution(node: Node) -> bool:
    """Whether a call is a convolution layer's."""
    return hasattr(node.operation, "kernel_size") and bool(node.operation.weights)


def is_norm(node: Node) -> bool:
    """Whether a call is a norm's."""
    return isinstance(node.operation, NORMS)


def named(anatomy: Anatomy, outputs: Sequence[Tensor]) -> tuple[dict[str, Tensor], list[tuple[str, Core]]]:
    """Tensors by the names of our grammar, and the attention of each block that has one."""
    blocks, units = anatomy.blocks(), anatomy.units()
    names = _Names(anatomy)
    if blocks:
        for i, (first, second) in enumerate(blocks):
            names.block(f"block{i:02}", first, second)
        names.stem(blocks[0][0].skip)
        names.end(last := blocks[-1][1].node.outputs[0], "final/ln/out")
        for core in cores_after(anatomy, last)[:1]:
            names.gathered(core)
    elif units:
        last = names.units(units)
        names.end(last, "final/norm/out")
    for tensor in outputs:
        names.classifier(tensor)
    return names.found, names.attentions


@dataclass
class _Names:
    anatomy: Anatomy
    found: dict[str, Tensor] = field(default_factory=dict)
    attentions: list[tuple[str, Core]] = field(default_factory=list)

    @property
    def links(self) -> Links:
        return self.anatomy.links

    def put(self, name: str, tensor: Tensor) -> None:
        """A name for a tensor, unless it has one."""
        if name not in self.found and not self._has_name(tensor):
            self.found[name] = tensor

    def _has_name(self, tensor: Tensor) -> bool:
        return any(self.links.same(tensor, t) for t in self.found.values())

    def block(self, block: str, first: Residual, second: Residual) -> None:
        nodes = self.anatomy.branch(first)
        core = self.anatomy.core_of(nodes)
        self._norm(f"{block}/ln1/out", nodes, first)
        kernels = [node for node in nodes if has_kernel(node)]
        if core:
            self.attentions.append((block, core))
            after = [n for n in kernels if self.links.place[id(n)] > self.links.made(id(core.parts["mixed"].tensor))]
            if len(after) == 1:
                self._out(f"{block}/attn/out", f"{block}/ls1/out", after[0].outputs[0], first)
        elif len(kernels) == 2:
            self._mlp(f"{block}/tokenmix", kernels, first, f"{block}/ls1/out")
        self.put(f"{block}/resid/mid", first.node.outputs[0])
        nodes = self.anatomy.branch(second)
        self._norm(f"{block}/ln2/out", nodes, second)
        module = "mlp" if core or self.anatomy.does[0] == "attn" else "chanmix"
        self._mlp(f"{block}/{module}", [node for node in nodes if has_kernel(node)], second, f"{block}/ls2/out")
        self.put(f"{block}/resid/post", second.node.outputs[0])

    def _norm(self, name: str, nodes: Sequence[Node], residual: Residual) -> None:
        for node in nodes:
            if is_norm(node) and self.links.same(node.input_tensors[0], residual.skip):
                self.put(name, node.outputs[0])

    def _mlp(self, module: str, kernels: Sequence[Node], residual: Residual, scale: str = "") -> None:
        if len(kernels) not in (2, 3):
            return
        gates = (
            [n for n in kernels[:-1] if kind(self._reader(n.outputs[0])) in ACTIVATIONS] if len(kernels) == 3 else []
        )
        if gates:
            self.put(f"{module}/gate", gates[0].outputs[0])
        self.put(f"{module}/pre", next(n for n in kernels if n not in gates).outputs[0])
        self.put(f"{module}/act", kernels[-1].input_tensors[0])
        self._out(f"{module}/out", scale, kernels[-1].outputs[0], residual)

    def _reader(self, tensor: Tensor) -> Node | None:
        """The only call that reads a tensor."""
        readers = self.links.readers.get(id(tensor), [])
        return readers[0] if len(readers) == 1 else None

    def _out(self, name: str, scale: str, out: Tensor, residual: Residual) -> None:
        """What a module gives: the tensor that is added, or what a scale makes of it."""
        if self.links.same(out, residual.branch):
            self.put(name, residual.branch)
            return
        self.put(name, out)
        if scale:
            self.put(scale, residual.branch)

    def stem(self, stream: Tensor) -> None:
        """The grid of patches, and the tokens that enter the first block."""
        kernels = [node for node in self._before(stream) if has_kernel(node)]
        if len(kernels) == 1:
            self.put("stem/embed", kernels[0].outputs[0])
        norm = self.links.maker.get(id(stream))
        if norm is not None and is_norm(norm):
            embed = "stem/embed" in self.found and self.links.same(norm.input_tensors[0], self.found["stem/embed"])
            self.put("stem/embed_norm" if embed else "stem/ln", stream)
            stream = norm.input_tensors[0]
        self.put("stem/tokens", stream)

    def _before(self, tensor: Tensor) -> list[Node]:
        ids = self.links.before(tensor)
        return [node for node in self.links.nodes if any(id(t) in ids for t in node.outputs)]

    def end(self, stream: Tensor, norm: str) -> None:
        """Norm, activation and pooling after the last block."""
        for node in self._line(stream):
            if is_norm(node):
                self.put(norm, node.outputs[0])
            elif kind(node) in ACTIVATIONS and len(node.outputs[0].shape) > 2:
                self.put("final/act/out", node.outputs[0])
            elif kind(node) in LAST_POOLS and len(node.outputs[0].shape) == 2:
                self.put("head/pooled", node.outputs[0])

    def gathered(self, core: Core) -> None:
        """A head that pools by attention: what one query gathers, and an MLP on top of it."""
        out = next((node for node in self._line(core.parts["mixed"].tensor) if has_kernel(node)), None)
        mlps = [r for r, does in zip(self.anatomy.residuals, self.anatomy.does, strict=True) if does == "mlp"]
        top = [residual for residual in mlps if out and self.links.same(residual.skip, out.outputs[0])]
        if out is None or not top:
            return
        self.attentions.append(("head", core))
        self.put("head/attn/out", out.outputs[0])
        nodes = self.anatomy.branch(top[0])
        self._norm("head/ln/out", nodes, top[0])
        self._mlp("head/mlp", [node for node in nodes if has_kernel(node)], top[0])
        for node in self._line(top[0].node.outputs[0]):
            if len(node.outputs[0].shape) == 2:
                self.put("head/pooled", node.outputs[0])

    def classifier(self, output: Tensor) -> None:
        """Logits and probabilities: the last product of an image's vector, and what an activation makes of it."""
        node = self.links.maker.get(id(self.links.root(output)))
        after = node if kind(node) in (*ACTIVATIONS, "Softmax") else None
        node = self.links.maker.get(id(self.links.root(after.input_tensors[0]))) if after else node
        if node is None or not has_kernel(node) or any(len(t.shape) != 2 for t in (*node.input_tensors, output)):
            return
        if any(len(t.shape) > 2 for earlier in self._before(output) for t in earlier.input_tensors):
            self.put("head/logits", node.outputs[0])
            if after and self.found.get("head/logits") is node.outputs[0]:
                self.put("head/probs", after.outputs[0])

    def _line(self, tensor: Tensor) -> Iterator[Node]:
        """The calls after a tensor, as far as there is one reader."""
        while True:
            readers = [n for n in self.links.readers.get(id(tensor), []) if len(n.outputs) == 1]
            if len(readers) != 1:
                return
            yield readers[0]
            tensor = readers[0].outputs[0]

    def units(self, units: Sequence[Residual]) -> Tensor:
        """Stem, and each unit under its stage: a run of units on grids of one size. Gives the end of the last."""
        self._root(units[0])
        stage, unit, rows, last = 0, 0, 0, units[0].skip
        for residual in units:
            size = residual.branch.shape[1]
            stage, unit = (stage, unit + 1) if size == rows else (stage + 1, 0)
            rows = size
            last = self._unit(f"stage{stage}/unit{unit:02}", residual)
        return last

    def _root(self, first: Residual) -> None:
        fork = self.links.fork(first.skip, first.branch)
        for node in self.links.nodes:
            if fork is None or self.links.place[id(node)] > self.links.made(fork):
                break
            site = "conv" if has_kernel(node) and not is_norm(node) else self._site(node)
            if site:
                self.put(f"stem/{site}", node.outputs[0])

    def _site(self, node: Node) -> str:
        if is_norm(node):
            return "norm"
        return "act" if kind(node) in ACTIVATIONS else "pool" if kind(node) in POOLS else ""

    def _unit(self, unit: str, residual: Residual) -> Tensor:
        total = residual.node.outputs[0]
        nodes = self.anatomy.branch(residual)
        shared = self.links.maker.get(self.links.fork(residual.skip, residual.branch) or 0)
        # a norm and an activation that branch and projection both read
        while shared is not None and self._site(shared) in ("norm", "act") and not self._has_name(shared.outputs[0]):
            nodes.insert(0, shared)
            shared = self.links.maker.get(id(shared.input_tensors[0]))
        counts = {"conv": 0, "norm": 0, "act": 0}
        for node in nodes:
            site = "conv" if is_convolution(node) else self._site(node)
            if site in counts:
                counts[site] += 1
                last = self.links.same(node.outputs[0], residual.branch)
                self.put(f"{unit}/{'branch' if last else f'{site}{counts[site]}'}/out", node.outputs[0])
        fork = self.links.fork(residual.skip, residual.branch)
        if id(residual.skip) != fork and any(has_kernel(n) for n in self.links.inside(residual.skip, fork or 0)):
            self.put(f"{unit}/skip/out", residual.skip)
        after = [n for n in self._line(total)][:1]
        if after and kind(after[0]) in ACTIVATIONS:
            self.put(f"{unit}/resid/sum", total)
            total = after[0].outputs[0]
        self.put(f"{unit}/resid/post", total)
        return total
