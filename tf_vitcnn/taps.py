"""The names of sublayers: `block/module/site`, the same grammar for every family.

A model's taps are declared in depth order: the order in which the forward pass computes them. Two-digit indices
make the alphabet agree with the depth inside a block list. Foreign models keep their own operation names.

    vit, deit, hybrid   block03/attn/probs     ResNets, ConvNeXts, hybrids   stage1/unit00/norm1/out
    mixer               block00/tokenmix/act   every family  stem/..., final/..., head/...
"""

import difflib
import fnmatch
import itertools
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tf_vitcnn.errors import BadInput

STEM = ("conv", "norm", "act", "pool")  # a hybrid's root files all four, BiT's conv and pool
BLOCK = (
    *("ln1/out", "attn/q", "attn/k", "attn/v", "attn/q_norm", "attn/k_norm", "attn/q_rot", "attn/k_rot"),
    *("attn/scores", "attn/probs", "attn/mixed", "attn/out", "ls1/out"),
    *("tokenmix/pre", "tokenmix/act", "tokenmix/out"),
    *("resid/mid", "ln2/out", "mlp/gate", "mlp/pre", "mlp/act", "mlp/out", "ls2/out"),
    *("chanmix/pre", "chanmix/act", "chanmix/out", "resid/post"),
)
UNIT = (
    *("norm1/out", "act1/out", "skip/out", "conv1/out", "norm2/out", "act2/out", "conv2/out"),
    *("norm3/out", "act3/out", "branch/out", "resid/post"),
)
# Post-activation units (hybrids) compute in another order and norm after each convolution.
HYBRID_UNIT = (
    *("conv1/out", "norm1/out", "act1/out", "conv2/out", "norm2/out", "act2/out", "conv3/out"),
    *("branch/out", "skip/out", "resid/sum", "resid/post"),
)
CONVNEXT_UNIT = (*("conv1/out", "norm1/out", "mlp/pre", "mlp/act", "mlp/norm", "mlp/out", "ls1/out", "resid/post"),)
DOWN = ("norm", "conv")  # between two stages of a ConvNeXt
EMBED = ("embed", "embed_norm", "tokens", "ln")
BLOCKS = re.compile(r"(?:block|stage\d+/unit)\d\d(?=/)")
MANY = 6  # sites of a block that are told one by one
TAIL = ("final/ln/out", "final/norm/out", "final/act/out")
HEAD = (
    # a head that pools by attention computes most of a block first
    *("attn/k", "attn/v", "attn/scores", "attn/probs", "attn/mixed", "attn/out", "ln/out"),
    *("mlp/pre", "mlp/act", "mlp/out", "pooled", "pooled_dist", "norm", "pre_logits", "logits", "logits_dist", "probs"),
)
# score matrices; branches count before LayerScale, so that a ViT has the layers of the paper, with it or without
BESIDE = ("attn/scores", "attn/probs", "ls1/out", "ls2/out")

_GRAMMAR = re.compile(
    r"(?P<block>block\d{2}|stage\d/unit\d{2}|stage\d/down|stem|final|head)/"
    r"(?:(?P<module>[a-z][a-z0-9_]*)/)?(?P<site>[a-z][a-z0-9_]*)"
)


class Tap(NamedTuple):
    """A parsed name; `module` is empty for the two-part names of stem and head."""

    block: str
    module: str
    site: str


def parse(name: str) -> Tap | None:
    """The parts of a declared tap's name, or None for a name outside the grammar (a foreign operation)."""
    match = _GRAMMAR.fullmatch(name)
    if match is None:
        return None
    block, module, site = match["block"], match["module"] or "", match["site"]
    rest = f"{module}/{site}" if module else site
    known: dict[str, tuple[str, ...]] = {"stem": STEM + EMBED, "head": HEAD}
    if block.endswith("/down"):
        known[block] = DOWN
    if block in known:
        return Tap(block, module, site) if rest in known[block] else None
    if block == "final":
        return Tap(block, module, site) if f"final/{rest}" in TAIL else None
    sites = BLOCK if block.startswith("block") else UNIT + HYBRID_UNIT + CONVNEXT_UNIT
    return Tap(block, module, site) if rest in sites else None


def in_depth_order(names: Iterable[str]) -> list[str]:
    """Declared taps in the order of the forward pass, from their names alone."""
    names = list(names)
    hybrid = any(name.endswith("resid/sum") for name in names)
    convnext = any(name.startswith("stage") and name.endswith("mlp/pre") for name in names)
    unit = HYBRID_UNIT if hybrid else CONVNEXT_UNIT if convnext else UNIT

    def key(name: str) -> tuple[int, str, int]:
        tap = parse(name)
        if tap is None:
            raise BadInput(f"{name!r} is not a declared tap's name")
        rest = f"{tap.module}/{tap.site}" if tap.module else tap.site
        if tap.block == "stem":
            return (0, "", STEM.index(rest)) if rest in STEM else (2, "", EMBED.index(rest))
        if tap.block.endswith("/down"):
            return (1, tap.block, DOWN.index(rest))
        if tap.block.startswith("stage"):
            return (1, tap.block, unit.index(rest))
        if tap.block.startswith("block"):
            return (3, tap.block, BLOCK.index(rest))
        if tap.block == "final":
            return (4, "", TAIL.index(name))
        return (5, "", HEAD.index(rest))

    return sorted(names, key=key)


def default(names: Sequence[str]) -> list[str]:
    """What the walk takes unless told otherwise: all but score matrices, branches times LayerScale, and the head."""
    if list(names[-2:-1]) == ["head/logits"]:  # its probabilities, in records that are older than their name
        names = names[:-1]
    return [name for name in names if not name.endswith(BESIDE) and not name.startswith("head/")]


def select(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """The taps that match any of the globs, in depth order; a glob that matches nothing is an error."""
    chosen: set[str] = set()
    for pattern in patterns:
        found = fnmatch.filter(names, pattern)
        if not found:
            near = difflib.get_close_matches(pattern.replace("*", ""), names, n=5, cutoff=0.1)
            raise BadInput(
                f"no tap matches {pattern!r}; nearest: {', '.join(near or names[:5])} ({len(names)} taps in all)"
            )
        chosen.update(found)
    return [name for name in names if name in chosen]


def depths(names: Sequence[str]) -> dict[str, int]:
    """Each tap's position among all declared taps."""
    return {name: depth for depth, name in enumerate(names)}


def block_of(name: str) -> str:
    """`block03` of `block03/attn/out`, `stage1/unit00` of a unit's tap, else the first part of the name."""
    tap = parse(name)
    return tap.block if tap else name.split("/")[0]


def stage_of(name: str) -> int | None:
    """The stage (from 1) of a ResNet's tap, None elsewhere."""
    match = re.match(r"stage(\d)/", name)
    return int(match[1]) if match else None


def probs_of(block: str) -> str:
    """The attention probabilities of a block."""
    return f"{block}/attn/probs"


def layer_name(tap: str) -> str:
    """The Keras layer's name of a tap: Keras rejects `/`."""
    return tap.replace("/", ".")


def tap_name(layer: str) -> str:
    """The tap's name of one of our Keras layers."""
    return layer.replace(".", "/")


def folded(names: Sequence[str]) -> str:
    """Names in one line, neighbouring blocks with the same sites together: `block00..11/{ln1/out, attn/q, ...}`."""
    groups: list[tuple[list[str], tuple[str, ...]]] = []  # blocks, and the sites that each of them has
    for block, own in itertools.groupby(names, lambda name: match[0] if (match := BLOCKS.match(name)) else ""):
        sites = tuple(name.removeprefix(f"{block}/") for name in own)
        before = groups[-1] if groups else ([""], ())
        if block and before[0][0][:-2] == block[:-2] and before[1] == sites:  # of one stage
            before[0].append(block)
        else:
            groups.append(([block], sites))
    return ", ".join(_told(blocks, sites) for blocks, sites in groups)


def _told(blocks: Sequence[str], sites: tuple[str, ...]) -> str:
    if not blocks[0]:
        return ", ".join(sites)
    last = f"..{blocks[-1][-2:]}" if len(blocks) > 1 else ""
    shown = sites if len(sites) <= MANY else (*sites[: MANY - 1], f"... {len(sites)} in all")
    return f"{blocks[0]}{last}/" + (sites[0] if len(sites) == 1 else f"{{{', '.join(shown)}}}")
