"""The sizes of every architecture we build, as data.

ViT, hybrids: vision_transformer/vit_jax/configs/models.py. BiT: big_transfer/bit_pytorch/models.py KNOWN_MODELS.
Mixer: Tolstikhin et al. (2021), table 1. DeiT: Touvron et al. (2021), table 1.
"""

from dataclasses import dataclass, replace

from tf_vitcnn.errors import BadInput, unknown

GROUPS = 32  # of channels that a ResNet normalises together


@dataclass(frozen=True)
class HybridStem:
    """The post-activation ResNet before a hybrid's embedding: units per stage; without any, the root alone."""

    units: tuple[int, ...] = ()
    width_factor: int = 1


@dataclass(frozen=True)
class ViTSpec:
    """A vision transformer: ViT, DeiT (`gelu="exact"`) or hybrid (`stem`)."""

    patch: int
    width: int
    depth: int
    heads: int
    mlp: int
    pool: str = "cls"  # "gap": the mean over tokens, and no class token
    distilled: bool = False
    pre_logits: int = 0  # width of the tanh layer before the head; the first ImageNet-21k checkpoints have one
    gelu: str = "tanh"
    stem: HybridStem | None = None

    @property
    def extra(self) -> tuple[str, ...]:
        """The tokens that have no place on the grid; they come first."""
        if self.pool == "gap":
            return ()
        return ("cls", "dist") if self.distilled else ("cls",)


@dataclass(frozen=True)
class ResNetSpec:
    """A BiT-ResNet: units per stage, and how wide it is as a multiple of a ResNet (a half: 32 channels)."""

    units: tuple[int, ...]
    width_factor: float = 1

    @property
    def channels(self) -> int:
        """Channels of the stem, and inside the first stage's units."""
        return round(64 * self.width_factor)


@dataclass(frozen=True)
class MixerSpec:
    """An MLP-Mixer."""

    patch: int
    width: int
    depth: int
    tokens_mlp: int
    channels_mlp: int


Spec = ViTSpec | ResNetSpec | MixerSpec

# name: width, depth, heads, mlp
_VIT = {
    "ti": (192, 12, 3, 768),
    "s": (384, 12, 6, 1536),
    "b": (768, 12, 12, 3072),
    "l": (1024, 24, 16, 4096),
    "h": (1280, 32, 16, 5120),
}
_PATCHES = {"ti": (16,), "s": (16, 32), "b": (8, 16, 32), "l": (16, 32), "h": (14,)}
# name: size, patch on the stem's grid, units
_HYBRIDS = {
    "r_ti16": ("ti", 8, ()),  # convolution and pooling halve twice, so 32 pixels to a token in spite of its name
    "r26_s32": ("s", 1, (2, 2, 2, 2)),
    "r26_b32": ("b", 1, (2, 2, 2, 2)),
    "r50_b16": ("b", 1, (3, 4, 9)),
    "r50_l32": ("l", 1, (3, 4, 6, 3)),
}
_BIT_UNITS = {"r50": (3, 4, 6, 3), "r101": (3, 4, 23, 3), "r152": (3, 8, 36, 3)}
_BIT = {"r50": (1, 3), "r101": (1, 3), "r152": (2, 4)}
# name: width, depth, tokens_mlp, channels_mlp
_MIXER = {"s": (512, 8, 256, 2048), "b": (768, 12, 384, 3072), "l": (1024, 24, 512, 4096)}


def _specs() -> dict[str, Spec]:
    """The table, in the order in which the catalog prints it."""
    table: dict[str, Spec] = {}
    for size, patches in _PATCHES.items():
        for patch in patches:
            table[f"vit_{size}{patch}"] = ViTSpec(patch, *_VIT[size])
    for name, spec in list(table.items()):
        if isinstance(spec, ViTSpec):
            table[f"{name}_gap"] = replace(spec, pool="gap")
    for name, (size, patch, units) in _HYBRIDS.items():
        table[name] = ViTSpec(patch, *_VIT[size], stem=HybridStem(units))
    for size in ("ti", "s", "b"):
        plain = ViTSpec(16, *_VIT[size], gelu="exact")
        table[f"deit_{size}16"] = plain
        table[f"deit_{size}16_distilled"] = replace(plain, distilled=True)
    for depth, factors in _BIT.items():
        for factor in factors:
            table[f"bit_{depth}x{factor}"] = ResNetSpec(_BIT_UNITS[depth], factor)
    for name in ("s16", "s32", "b16", "b32", "l16"):
        table[f"mixer_{name}"] = MixerSpec(int(name[1:]), *_MIXER[name[0]])
    return table


SPECS: dict[str, Spec] = _specs()


def spec_of(name: str) -> Spec:
    """The sizes behind an architecture's name."""
    if name not in SPECS:
        raise unknown("architecture", name, SPECS)
    return SPECS[name]


def family_of(spec: Spec) -> str:
    """One of vit, deit, hybrid, bit, mixer."""
    if isinstance(spec, ResNetSpec):
        return "bit"
    if isinstance(spec, MixerSpec):
        return "mixer"
    if spec.stem is not None:
        return "hybrid"
    return "deit" if spec.distilled or spec.gelu == "exact" else "vit"


def check(spec: Spec) -> None:
    """Refuses sizes that no network can have."""
    for name, value in vars(spec).items():
        least = min(value, default=0) if isinstance(value, tuple) else value
        if type(least) in (int, float) and least <= 0 and name != "pre_logits":
            raise BadInput(f"{name}={value}: expected a positive number")
    if isinstance(spec, ViTSpec) and spec.width % spec.heads:
        raise BadInput(f"width={spec.width} does not split into heads={spec.heads} of equal size; take a multiple")
    if isinstance(spec, ResNetSpec) and spec.channels % GROUPS:
        raise BadInput(f"width_factor={spec.width_factor}: {spec.channels} channels do not split into {GROUPS} groups")
