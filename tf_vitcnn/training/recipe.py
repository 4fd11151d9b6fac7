"""What a training run is: every choice that its weights depend on, and nothing else.

Defaults that depend on the model or the data stand as None in the flags; `settled` fills them in. They suit small
data sets: AdamW, warm-up, cosine, shifted (and, for photographs, flipped) images.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from tf_vitcnn.errors import BadInput

Pool = Literal["cls", "gap"]
CLOSED = {
    "optimizer": ("adamw", "muon"),
    "precision": ("float32", "bfloat16", "float16"),
    "compute": ("float32", "tensorfloat32", "bfloat16"),
}


@dataclass(frozen=True)
class Trained:
    """What is trained, on what."""

    model: str = ""
    """vit_custom, bit_custom, mixer_custom or an architecture's name such as vit_ti16; flags change its sizes"""
    data: str = ""
    """labelled training images: folder:DIR, npz:FILE, digits:train or NAME:SPLIT"""
    val: str | None = None
    """labelled images to validate on after each epoch"""
    epochs: int = 30
    """passes over the training images; 0 saves the initial weights"""
    fraction: float = 1.0
    """share of the training images, the same of each class; with one seed smaller shares lie in larger ones"""
    start: str | None = field(default=None, metadata={"word": "from"})
    """fine-tune this model (any spec that analyze takes) instead of starting from random weights"""
    pool: Pool | None = None
    """class token or mean over tokens (ViT); default: what the architecture's name says"""
    no_skip: tuple[int, ...] = ()
    """blocks (ViT, Mixer) or units (BiT) that lose their skip connections, counted from 0"""
    seed: int = 0
    """fixes initial weights, which images are drawn, their order and their augmentation"""


@dataclass(frozen=True)
class Sizes:
    """The network's sizes, where its name leaves them open."""

    image_size: int | None = None
    """side of the network's input in pixels; default: the images' own size if they are square and at most 224 (and
    at least 32 for a ResNet, whose stem divides by four), else 224"""
    patch: int | None = None
    """pixels of a patch's side (ViT, Mixer)"""
    width: int | None = None
    """channels of a token, or of a ResNet's stem (64 in the published ones)"""
    depth: int | None = None
    """blocks (ViT, Mixer), or units in all, spread over three stages (BiT)"""
    heads: int | None = None
    """attention heads (ViT)"""
    mlp: int | None = None
    """width of the (channel) MLP; default: four times the width"""
    tokens_mlp: int | None = None
    """width of the token MLP (Mixer); default: half the width"""
    units: tuple[int, ...] | None = None
    """residual units of each stage (BiT), instead of --depth"""


@dataclass(frozen=True)
class Steps:
    """How a step goes."""

    batch: int | None = None
    """images in a step; default 128, fewer where that would leave less than 16 steps to an epoch"""
    rate: float | None = None
    """peak learning rate; default: 0.2 / width, at most 0.003, for tokens (0.3 times that for pooled ViTs, which is
    the paper's 0.0003 at width 192), 0.001 for ResNets, 0.0003 with --from"""
    warmup: float = 0.1
    """share of all steps in which the rate rises from zero, before it falls along a cosine to zero"""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """muon: kernels inside the network move by orthogonal matrices, which takes a small ViT farther in few passes"""
    weight_decay: float = 0.05
    """the decay of kernels (biases, norms, tokens and positions are left alone)"""
    clip: float = 1.0
    """largest norm of a step's gradient; 0 for no limit"""
    label_smoothing: float = 0.1
    """share of each label that is spread over all classes"""
    mixup: float = 0.0
    """alpha of mixup's Beta distribution; 0 for none"""
    shift: float | None = None
    """images are moved by up to this share of their side at random, the rim mirrored; default: photographs by an
    eighth, digits, which are centred, not at all"""
    flip: bool | None = None
    """whether images are mirrored at random; default: photographs yes, digits no"""
    compute: Literal["float32", "tensorfloat32", "bfloat16"] = "float32"
    """what products of float32 take their inputs in, on every device alike"""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """of the products; weights stay float32"""


@dataclass(frozen=True)
class Recipe(Steps, Sizes, Trained):
    """The choices of one training run."""

    def __post_init__(self) -> None:
        """Refuses what no training can mean."""
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise BadInput(f"--{name.replace('_', '-')} {value}: expected a number from {low:g} to {high:g}")
        if not self.data or not (self.model or self.start):
            missing = "--model" if self.data else "--data"
            raise BadInput(f"{missing} must be given (or a whole list of trainings with --plan)")
        if self.fraction == 0:
            raise BadInput("--fraction 0: expected a share above 0, at most 1")

    def as_dict(self) -> dict[str, Any]:
        """The recipe as the card records it, under the names of its flags."""
        fields = asdict(self)
        fields["from"] = fields.pop("start")
        for name, usual in (("compute", "float32"), ("optimizer", "adamw")):
            if fields[name] == usual:  # which cards have said nothing of so far
                del fields[name]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    def settled(self, images: int, width: int | None = None, pooled: bool = False) -> Recipe:
        """The recipe with its open choices made, for so many images and channels of a token (None: a ResNet)."""
        enough = 2 ** (max(1, images // 16).bit_length() - 1)  # a power of two that leaves 16 steps to an epoch
        batch = min(self.batch or min(128, max(8, enough)), images)
        usual = 3e-4 if self.start else min(0.003, 0.2 / width) * (0.3 if pooled else 1.0) if width else 1e-3
        rate = usual if self.rate is None else self.rate
        photographs = not self.data.startswith(("digits:", "noise", "mnist:"))
        flip = photographs if self.flip is None else self.flip
        shift = photographs / 8 if self.shift is None else self.shift
        return replace(self, batch=batch, rate=rate, flip=flip, shift=shift)


_RANGES = (
    ("epochs", 0, 1e6),
    ("fraction", 0, 1),
    ("image_size", 1, 4096),
    ("patch", 1, 4096),
    ("width", 1, 1e5),
    ("depth", 1, 99),  # block indices have two digits
    ("heads", 1, 1e4),
    ("mlp", 1, 1e6),
    ("tokens_mlp", 1, 1e6),
    ("batch", 1, 1e6),
    ("rate", 0, float("inf")),
    ("warmup", 0, 1),
    ("weight_decay", 0, 1e3),
    ("clip", 0, 1e9),
    ("label_smoothing", 0, 0.999),
    ("mixup", 0, 1e3),
    ("shift", 0, 0.5),
    ("seed", 0, 2**31 - 1),
)


def from_dict(fields: dict[str, Any], where: str) -> Recipe:
    """The recipe of a plan's table or a card's entry; unknown names and wrong types are an error."""
    from tf_vitcnn.errors import unknown

    fields = {("start" if name == "from" else name.replace("-", "_")): value for name, value in fields.items()}
    kinds = {name: spec.type for name, spec in Recipe.__dataclass_fields__.items()}
    for name, value in fields.items():
        if name not in kinds:
            raise unknown(f"setting in {where}", name, [n if n != "start" else "from" for n in kinds])
        fields[name] = _typed(name, str(kinds[name]), value, where)
    return Recipe(**fields)


def _typed(name: str, kind: str, value: Any, where: str) -> Any:
    """`value` if it has the field's type (an integer will do for a float, a list or a single one for a tuple)."""
    if kind.startswith("tuple"):
        value = tuple(value) if isinstance(value, list) else (value,)
        good = all(type(v) is int for v in value)
    elif kind.startswith("float"):
        good = type(value) in (int, float)
        value = float(value) if good else value
    elif kind.startswith(("int", "bool")):
        good = type(value).__name__ == kind.split()[0]
    else:
        good = isinstance(value, str)
    if name == "pool":
        good = value in ("cls", "gap")
    if name in CLOSED:
        good = value in CLOSED[name]
    if not good and not (value is None and "None" in kind):
        raise BadInput(f"{where}: {name.replace('_', '-')} = {value!r} does not fit; expected {kind}")
    return value
