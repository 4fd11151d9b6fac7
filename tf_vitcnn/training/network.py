"""The network that a recipe asks for, with every sublayer a tap, on random or given weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from tf_vitcnn import models, taps
from tf_vitcnn.data.images import Preprocessing
from tf_vitcnn.errors import BadInput, unknown
from tf_vitcnn.models.specs import SPECS, MixerSpec, ResNetSpec, Spec, ViTSpec, family_of

if TYPE_CHECKING:
    import keras

    from tf_vitcnn.data.base import Source
    from tf_vitcnn.training.recipe import Recipe

CUSTOM = ("vit_custom", "bit_custom", "mixer_custom")
LARGEST = 224  # the input's side unless told otherwise, and unless the images are smaller
SMALLEST_RESNET = 32  # the stem divides by four, three stages by four again
# How the names of a family's architectures begin
SPELLED = {"hybrid": ("hybrid", "r"), "resnet": ("bit",), "vit": ("vit", "deit", "r")}
SIZES = {  # which flags give the sizes of which family
    "vit": ("patch", "width", "depth", "heads", "mlp"),
    "bit": ("width", "depth", "units"),
    "mixer": ("patch", "width", "depth", "mlp", "tokens_mlp"),
}
ALL_SIZES = sorted({name for names in SIZES.values() for name in names})
_CUSTOM: dict[str, Callable[[int], Spec]] = {  # by the patch's side
    "vit_custom": lambda patch: ViTSpec(patch, 128, 8, 4, 512),
    "bit_custom": lambda patch: ResNetSpec((1, 1, 1), 0.5),
    "mixer_custom": lambda patch: MixerSpec(patch, 128, 8, 64, 512),
}


@dataclass(frozen=True)
class Origin:
    """A network before training: the dict of its taps, which of them is trained, and what the card says about it."""

    model: keras.Model
    logits: Any
    preprocessing: Preprocessing
    facts: dict[str, Any]


def origin(recipe: Recipe, source: Source) -> Origin:
    """The recipe's network for a source's images: a new one on seeded random weights, or a given one."""
    if recipe.start:
        return _given(recipe, recipe.start, source.classes)
    height, width, _ = source.load(0)[0].shape
    side = image_size(recipe, height, width)
    spec = spec_of(recipe, side)
    model = models.build(spec, image_size=side, classes=source.classes, seed=recipe.seed, no_skip=recipe.no_skip)
    facts = {
        "spec": recipe.model,
        "architecture": {"kind": type(spec).__name__, **asdict(spec)},
        "family": family_of(spec),
        "pool": spec.pool if isinstance(spec, ViTSpec) else None,
        "patch_size": None if isinstance(spec, ResNetSpec) else spec.patch,
        "depth": blocks(spec),
        "no_skip": sorted(set(recipe.no_skip)),
    }
    return Origin(model, model.output["head/logits"], Preprocessing((side, side)), facts)


def image_size(recipe: Recipe, height: int, width: int) -> int:
    """The side of the network's input for training images of this size."""
    if recipe.image_size:
        return recipe.image_size
    side = height if height == width and height <= LARGEST else LARGEST
    return max(side, SMALLEST_RESNET) if recipe.model.startswith("bit") else side


def spec_of(recipe: Recipe, side: int) -> Spec:
    """The sizes of the recipe's architecture for images of this side."""
    if recipe.model not in CUSTOM and recipe.model not in SPECS:
        raise unknown("architecture", recipe.model, [*CUSTOM, *SPECS])
    _only_its_own_flags(recipe)
    spec = _sizes(recipe, side)
    if isinstance(spec, ViTSpec) and spec.distilled:
        raise BadInput(
            f"--model {recipe.model}: distillation needs a teacher; train its variant without a second token"
        )
    if isinstance(spec, ViTSpec) and recipe.pool:
        spec = replace(spec, pool=recipe.pool)
    elif recipe.pool:
        raise BadInput(f"--pool {recipe.pool}: only ViTs have a choice; {recipe.model} is always pooled")
    if isinstance(spec, ViTSpec) and spec.width % spec.heads:
        raise BadInput(f"--heads {spec.heads}: expected a divisor of the width, {spec.width}")
    if isinstance(spec, ResNetSpec) and spec.channels % 32:
        raise BadInput(f"--width {recipe.width}: expected a multiple of 32, the groups of a ResNet's norms")
    missing = [block for block in recipe.no_skip if not 0 <= block < blocks(spec)]
    if missing:
        raise BadInput(f"--no-skip {missing[0]}: {recipe.model} has blocks 0 to {blocks(spec) - 1}")
    return spec


def blocks(spec: Spec) -> int:
    """How many blocks (a ResNet's units) have skip connections to lose."""
    return sum(spec.units) if isinstance(spec, ResNetSpec) else spec.depth


def _only_its_own_flags(recipe: Recipe) -> None:
    own = SIZES[recipe.model.partition("_")[0] if recipe.model.startswith(("bit", "mixer")) else "vit"]
    for name in ALL_SIZES:
        if name not in own and getattr(recipe, name) is not None:
            takes = ", ".join("--" + n.replace("_", "-") for n in own)
            raise BadInput(f"--{name.replace('_', '-')}: {recipe.model} takes {takes} only")


def _sizes(recipe: Recipe, side: int) -> Spec:
    """Sizes from flags, over those of the name; vit_custom and its like suit 64 pixels on a small machine."""
    units = recipe.units or (recipe.depth and _spread(recipe.depth))
    if units and not (1 <= len(units) <= 9 and min(units) >= 1):
        raise BadInput(f"--units {' '.join(map(str, units))}: expected one to nine stages of at least one unit")
    base = _CUSTOM[recipe.model](max(2, side // 8)) if recipe.model in CUSTOM else SPECS[recipe.model]
    if isinstance(base, ResNetSpec):
        return replace(base, units=units or base.units, width_factor=(recipe.width or base.channels) / 64)
    width = recipe.width or base.width
    sizes: dict[str, Any] = {"patch": recipe.patch or base.patch, "width": width, "depth": recipe.depth or base.depth}
    wider = recipe.mlp or (4 * recipe.width if recipe.width else 0)
    if isinstance(base, MixerSpec):
        tokens = recipe.tokens_mlp or (max(1, width // 2) if recipe.width else base.tokens_mlp)
        return replace(base, **sizes, channels_mlp=wider or base.channels_mlp, tokens_mlp=tokens)
    heads = recipe.heads or next(heads for heads in (base.heads, 4, 3, 2, 1) if width % heads == 0)
    pre_logits = width if base.pre_logits else 0
    return replace(base, **sizes, mlp=wider or base.mlp, heads=heads, pre_logits=pre_logits)


def _spread(units: int, stages: int = 3) -> tuple[int, ...]:
    """Units over at most three stages, as evenly as can be."""
    stages = min(stages, units)
    return tuple(units // stages + (i < units % stages) for i in range(stages))


def _given(recipe: Recipe, start: str, classes: int) -> Origin:
    """The network of any spec with a head for so many classes, on its own weights."""
    import tf_vitcnn
    from tf_vitcnn import surgery

    given = [name for name in (*ALL_SIZES, "pool") if getattr(recipe, name) is not None]
    if given:
        raise BadInput(f"--{given[0].replace('_', '-')}: the sizes are those of --from {start}")
    subject = tf_vitcnn.load(start, image_size=recipe.image_size, seed=recipe.seed)
    known = subject.provenance
    family = known.get("family", "other")
    if recipe.model and not recipe.model.startswith(SPELLED.get(family, (family,))):
        raise BadInput(f"--model {recipe.model}: --from {start} is of the family {family!r}")
    model = with_head(subject.model, classes, recipe.seed)
    if recipe.no_skip:
        model = surgery.without_skips(model, recipe.no_skip)
    facts = {
        "spec": recipe.model or start,
        "architecture": known.get("architecture"),
        "family": family,
        "pool": known.get("pool"),
        "patch_size": known.get("patch_size"),
        "depth": known.get("depth"),
        "no_skip": sorted({*(known.get("no_skip") or ()), *recipe.no_skip}),
    }
    return Origin(model, model.output[_last(model)], subject.preprocessing, facts)


def with_head(model: keras.Model, classes: int, seed: int) -> keras.Model:
    """The same network and weights with a fresh classifier, unless it has that many classes already."""
    import keras

    name = _last(model)
    layer, features = _classifier(model, name)
    if layer.units == classes and layer.activation is keras.activations.linear:
        return model
    if "head/logits_dist" in model.output:
        raise BadInput("--from: a distilled DeiT answers with two heads; fine-tune its plain variant")
    head = keras.layers.Dense(
        classes,
        kernel_initializer=keras.initializers.RandomNormal(stddev=features.shape[-1] ** -0.5, seed=seed),
        name=taps.layer_name("head/logits"),
    )
    kept = {tap: tensor for tap, tensor in model.output.items() if tap != name}
    return keras.Model(model.inputs[0], {**kept, "head/logits": head(features)}, name=model.name)


def _last(model: keras.Model) -> str:
    """The tap of the classifier."""
    return "head/logits" if "head/logits" in model.output else list(model.output)[-1]


def _classifier(model: keras.Model, name: str) -> tuple[Any, Any]:
    """The layer that computes the logits, and what it reads [b, d]."""
    import keras

    made: Sequence[Any] = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    own = [layer for layer in made if layer.output is model.output[name]]
    if not own or len(own[0].input.shape) != 2:
        raise BadInput(f"--from: {name!r} is no dense classifier of one vector per image, so it cannot be replaced")
    return own[0], own[0].input
