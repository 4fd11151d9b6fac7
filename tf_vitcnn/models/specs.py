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
    """A vision transformer: ViT, DeiT (`gelu="exact"`), hybrid (`stem`), and what came after them."""

    patch: int
    width: int
    depth: int
    heads: int
    mlp: int
    pool: str = "cls"  # "gap": the mean over the grid's tokens; "map": attention from one learnt query; "cls+gap": both
    distilled: bool = False
    pre_logits: int = 0  # width of the tanh layer before the head; the first ImageNet-21k checkpoints have one
    gelu: str = "tanh"  # or exact, quick, silu, relu
    stem: HybridStem | None = None
    cls: bool | None = None  # a class token; None: only where it is pooled
    registers: int = 0  # tokens that stand for nothing (Darcet et al., 2024)
    positions: str = "all"  # which tokens have one: all, "cls" and grid, "grid", "rotary" (turns q and k), "none"
    layer_scale: bool = False  # a factor for each channel of a branch (Touvron et al., 2021)
    embed_norm: bool = False  # a norm of the patches alone
    pre_norm: bool = False  # a norm of the tokens before the first block, as in CLIP
    norm: str = "layer"  # or "rms"
    epsilon: float = 1e-6
    qk_norm: bool = False  # a norm of each head's queries and keys
    gated: bool = False  # the hidden layer is a product: gelu(gate) * pre
    final_norm: str = "tokens"  # or "pooled": after the pooling; "none"
    pool_extra: bool = False  # the pooling sees extra tokens too
    no_bias: tuple[str, ...] = ()  # of embed, q, k, v, out, mlp, head, norm

    @property
    def extra(self) -> tuple[str, ...]:
        """The tokens that have no place on the grid; they come first."""
        has_cls = self.pool.startswith("cls") if self.cls is None else self.cls
        first = () if not has_cls else ("cls", "dist") if self.distilled else ("cls",)
        return (*first, *(f"reg{i}" for i in range(self.registers)))

    @property
    def placed(self) -> int:
        """How many of the extra tokens, from the first, have a position."""
        return {"all": len(self.extra), "cls": len(self.extra) - self.registers}.get(self.positions, 0)

    @property
    def added(self) -> bool:
        """Whether there are position embeddings at all."""
        return self.positions not in ("rotary", "none")

    def has_bias(self, site: str) -> bool:
        """Whether the layer adds one."""
        return site not in self.no_bias


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
class PostResNetSpec:
    """A ResNet with batch norms, activated after each addition (He et al., 2015; strides in the 3 x 3 as in v1.5)."""

    units: tuple[int, ...]  # of each stage
    inner: tuple[int, ...]  # channels inside each stage's units
    outer: tuple[int, ...]  # and after them
    bottleneck: bool = True  # 1 x 1, 3 x 3, 1 x 1; else two 3 x 3
    groups: int = 1  # of the 3 x 3 (ResNeXt)
    stem: tuple[int, ...] = (64,)  # channels of one 7 x 7 convolution, or of three 3 x 3
    mean_skip: bool = False  # where a unit strides, its skip is averaged and then projected (ResNet-D)


@dataclass(frozen=True)
class ConvNeXtSpec:
    """A ConvNeXt (Liu et al., 2022), of the second version with `response_norm`."""

    units: tuple[int, ...]
    widths: tuple[int, ...]
    patch: int = 4
    kernel: int = 7
    expansion: int = 4
    layer_scale: bool = True
    response_norm: bool = False
    gelu: str = "exact"
    epsilon: float = 1e-6
    head_epsilon: float | None = None  # of the last norm, where it has another
    final_norm: str = "pooled"  # or "tokens": before the pooling; "none"


@dataclass(frozen=True)
class MixerSpec:
    """An MLP-Mixer."""

    patch: int
    width: int
    depth: int
    tokens_mlp: int
    channels_mlp: int


ConvSpec = PostResNetSpec | ConvNeXtSpec
Spec = ViTSpec | ResNetSpec | MixerSpec  # what we train, and the paper compares
AnySpec = Spec | ConvSpec

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


def family_of(spec: AnySpec) -> str:
    """One of vit, deit, hybrid, bit, mixer, resnet."""
    if isinstance(spec, ConvSpec):
        return "resnet"
    if isinstance(spec, ResNetSpec):
        return "bit"
    if isinstance(spec, MixerSpec):
        return "mixer"
    if spec.stem is not None:
        return "hybrid"
    return "deit" if spec.distilled or spec.gelu == "exact" else "vit"


def blocks_of(spec: AnySpec) -> int:
    """How many blocks, or units of a ResNet, have skip connections."""
    return sum(spec.units) if isinstance(spec, ResNetSpec | PostResNetSpec | ConvNeXtSpec) else spec.depth


def check(spec: AnySpec) -> None:
    """Refuses sizes that no network can have."""
    for name, value in vars(spec).items():
        least = min(value, default=0) if isinstance(value, tuple) and name != "no_bias" else value
        if type(least) in (int, float) and least <= 0 and name not in ("pre_logits", "registers"):
            raise BadInput(f"{name}={value}: expected a positive number")
    if isinstance(spec, ViTSpec) and spec.width % spec.heads:
        raise BadInput(f"width={spec.width} does not split into heads={spec.heads} of equal size; take a multiple")
    if isinstance(spec, ViTSpec) and spec.pool.startswith("cls") and "cls" not in spec.extra:
        raise BadInput(f"pool={spec.pool!r} needs a class token; take cls=True or another pooling")
    if isinstance(spec, ResNetSpec) and spec.channels % GROUPS:
        raise BadInput(f"width_factor={spec.width_factor}: {spec.channels} channels do not split into {GROUPS} groups")
