"""Every released checkpoint: architecture, source, classes, what it was trained on, how images reach it.

The first entry of an architecture is its default. Sources: vision_transformer's README and vit_jax/configs,
big_vision's list of recommended checkpoints, big_transfer's README, the TF-Hub documentation. Buckets are public.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tf_vitcnn.checkpoints import layouts
from tf_vitcnn.models.specs import SPECS, Spec, ViTSpec, family_of

if TYPE_CHECKING:
    from tf_vitcnn.data.images import Preprocessing

Size = tuple[int, int]
IMAGENET = {"imagenet2012": 1_281_167, "imagenet21k": 14_197_122, "cifar10": 50_000}
I21K, I1K = "imagenet21k", "imagenet2012"
CLASSES = {I21K: 21843, I1K: 1000, "cifar10": 10}
VIT, MIXER, BIT = "gs://vit_models", "gs://mixer_models", "gs://bit_models"
HUB = "https://tfhub.dev"


@dataclass(frozen=True)
class Entry:
    """A released checkpoint."""

    model: str
    variant: str
    source: str
    trained_on: str  # the last data set
    finetuned_from: str | None = None  # the data set before
    image_size: int = 224
    classes: int = 1000  # 0: features only
    pre_logits: bool = False

    @property
    def licence(self) -> str:
        """Of the weights: all of these were released under the same, those of DeiT by their converter too."""
        return "apache-2.0"

    @property
    def spec(self) -> Spec:
        """The sizes, with the `pre_logits` layer if it has one."""
        spec = SPECS[self.model]
        return replace(spec, pre_logits=spec.width) if self.pre_logits and isinstance(spec, ViTSpec) else spec

    @property
    def parameters(self) -> int:
        """How many, by the architecture."""
        return layouts.count(self.spec, (self.image_size,) * 2, self.classes)

    @property
    def training_images(self) -> int:
        """Images of the largest data set it saw."""
        return IMAGENET[self.finetuned_from or self.trained_on]

    def preprocessing(self, size: Size | None = None) -> Preprocessing:
        """How images reach it."""
        return preprocessing(self.spec, size or (self.image_size,) * 2)

    def about(self) -> dict[str, Any]:
        """What provenance says of it."""
        return {
            "variant": self.variant,
            "source": self.source,
            "trained_on": self.trained_on,
            "finetuned_from": self.finetuned_from,
            "training_images": self.training_images,
        }


def preprocessing(spec: Spec, size: Size) -> Preprocessing:
    """What the architecture's official pipeline does: [-1, 1] for ViT, BiT and Mixer, ImageNet statistics for DeiT."""
    from tf_vitcnn.data.images import Preprocessing

    if family_of(spec) == "deit":
        # 256 then 224: the share of the image that is kept
        return Preprocessing(size, resize="bicubic", crop=0.875, values="imagenet")
    return Preprocessing(size)


def _ours(family: str, name: str) -> str:
    """Our name of an official one: B_16 is vit_b16."""
    return f"{family}_{name.lower().replace('_', '')}"


# Originals (Dosovitskiy et al., 2021): pre-trained on ImageNet-21k with `pre_logits`, fine-tuned without.
_ORIGINAL = {
    **{_ours("vit", name): f"ViT-{name}" for name in ("B_8", "B_16", "B_32", "L_16", "L_32", "H_14")},
    "r26_b32": "R26+ViT-B_32",
    "r50_b16": "R50+ViT-B_16",
    "r50_l32": "R50+ViT-L_32",
}
_FINETUNED = {"r50_b16": (384,), "vit_b8": (384,), "vit_b16": (384, 224), "vit_b32": (384,)}
_FINETUNED |= {"vit_l16": (384, 224), "vit_l32": (384,)}

# Recommended by Steiner et al. (2021): name in the bucket, pre-training, learning rates of fine-tuning at 224 and 384.
_AUGREG = {
    "vit_ti16": ("Ti_16", "lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0", "0.03", "0.03"),
    "vit_s32": ("S_32", "lr_0.001-aug_none-wd_0.1-do_0.0-sd_0.0", "", ""),
    "vit_s16": ("S_16", "lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0", "0.03", "0.03"),
    "vit_b32": ("B_32", "lr_0.001-aug_light1-wd_0.1-do_0.0-sd_0.0", "", "0.03"),
    "vit_b16": ("B_16", "lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0", "0.01", "0.01"),
    "vit_b8": ("B_8", "lr_0.001-aug_medium2-wd_0.1-do_0.0-sd_0.0", "", ""),
    "vit_l16": ("L_16", "lr_0.001-aug_strong1-wd_0.1-do_0.0-sd_0.0", "", "0.01"),
    "r_ti16": ("R_Ti_16", "lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0", "0.03", "0.03"),
    "r26_s32": ("R26_S_32", "lr_0.001-aug_medium2-wd_0.03-do_0.0-sd_0.0", "", "0.03"),
    "r50_l32": ("R50_L_32", "lr_0.001-aug_medium2-wd_0.1-do_0.0-sd_0.0", "", "0.01"),
}
# Fine-tuned at 224 from another pre-training than the recommended one.
_AUGREG_224 = {
    "vit_s32": ("S_32", "lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0", "0.03"),
    "vit_b32": ("B_32", "lr_0.001-aug_medium1-wd_0.03-do_0.0-sd_0.0", "0.03"),
    "vit_b8": ("B_8", "lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0", "0.01"),
    "vit_l16": ("L_16", "lr_0.001-aug_medium1-wd_0.1-do_0.1-sd_0.1", "0.01"),
    "r26_s32": ("R26_S_32", "lr_0.001-aug_light0-wd_0.03-do_0.1-sd_0.1", "0.03"),
    "r50_l32": ("R50_L_32", "lr_0.001-aug_medium1-wd_0.1-do_0.1-sd_0.1", "0.01"),
}
_HUB_VIT = {
    "vit_s16": "vit_s16",
    "vit_b8": "vit_b8",
    "vit_b16": "vit_b16",
    "vit_b32": "vit_b32",
    "vit_l16": "vit_l16",
    "r26_s32": "vit_r26_s32_lightaug",
    "r50_l32": "vit_r50_l32",
}


def _vits() -> Iterator[Entry]:
    for model, name in _ORIGINAL.items():
        yield Entry(model, I21K, f"{VIT}/imagenet21k/{name}.npz", I21K, None, 224, CLASSES[I21K], pre_logits=True)
    for model, sizes in _FINETUNED.items():
        for size in sizes:
            file = _ORIGINAL[model] + ("-224" if size == 224 else "")
            variant = f"{I21K}+{I1K}" + ("-224" if size == 224 else "")
            yield Entry(
                model, variant, f"{VIT}/imagenet21k%2Bimagenet2012/{file}.npz".replace("%2B", "+"), I1K, I21K, size
            )
    yield from _augreg()
    for name in ("B_16", "B_32", "L_16", "L_32", "S_16"):
        yield Entry(_ours("vit", name), "sam", f"{VIT}/sam/ViT-{name}.npz", I1K)
    # big_vision trained these pooled by the mean; if a file has a class token, loading says so
    for name in ("S_16", "S_32", "B_16", "B_32"):
        yield Entry(_ours("vit", name) + "_gap", "gsam", f"{VIT}/gsam/ViT-{name}.npz", I1K)
    for model, name in _HUB_VIT.items():
        yield Entry(model, "tfhub", f"{HUB}/sayakpaul/{name}_classification/1", I1K, I21K)
        yield Entry(model, "tfhub-features", f"{HUB}/sayakpaul/{name}_fe/1", I1K, I21K, classes=0)
    yield Entry("r26_s32", "tfhub-medaug", f"{HUB}/sayakpaul/vit_r26_s32_medaug_classification/1", I1K, I21K)
    yield Entry("r26_s32", "tfhub-medaug-features", f"{HUB}/sayakpaul/vit_r26_s32_medaug_fe/1", I1K, I21K, classes=0)


def _augreg() -> Iterator[Entry]:
    for model, (name, recipe, at_224, at_384) in _AUGREG.items():
        file = f"{VIT}/augreg/{name}-i21k-300ep-{recipe}"
        yield Entry(model, f"augreg-{I21K}", f"{file}.npz", I21K, classes=CLASSES[I21K])
        for size, rate in ((224, at_224), (384, at_384)):
            if rate:
                tuned = f"{file}--imagenet2012-steps_20k-lr_{rate}-res_{size}.npz"
                yield Entry(model, f"augreg-{I21K}+{I1K}-{size}", tuned, I1K, I21K, size)
    for model, (name, recipe, rate) in _AUGREG_224.items():
        file = f"{VIT}/augreg/{name}-i21k-300ep-{recipe}--imagenet2012-steps_20k-lr_{rate}-res_224.npz"
        yield Entry(model, f"augreg-{I21K}+{I1K}-224", file, I1K, I21K)


def _deits() -> Iterator[Entry]:
    for size, name in (("ti", "tiny"), ("s", "small"), ("b", "base")):
        for suffix, infix in (("", ""), ("_distilled", "_distilled")):
            model = f"deit_{size}16{suffix}"
            for pixels in (224, 384) if size == "b" else (224,):
                handle = f"{HUB}/sayakpaul/deit_{name}{infix}_patch16_{pixels}"
                variant = I1K + ("" if pixels == 224 else f"-{pixels}")
                yield Entry(model, variant, f"{handle}/1", I1K, image_size=pixels)
                yield Entry(model, f"{variant}-features", f"{handle}_fe/1", I1K, image_size=pixels, classes=0)


def _bits() -> Iterator[Entry]:
    models = [name for name in SPECS if name.startswith("bit_")]
    for model in models:
        name = model.removeprefix("bit_").upper().replace("X", "x")
        yield Entry(model, I21K, f"{BIT}/BiT-M-{name}.npz", I21K, classes=CLASSES[I21K])
        yield Entry(model, I1K, f"{BIT}/BiT-S-{name}.npz", I1K)
        # fine-tuned at 480 pixels (big_transfer/bit_hyperrule.py)
        yield Entry(model, f"{I21K}+{I1K}", f"{BIT}/BiT-M-{name}-ILSVRC2012.npz", I1K, I21K, 480)
        if model == "bit_r152x2":
            continue  # never on TF-Hub
        s, m = (f"{HUB}/google/bit/{kind}-{name.lower()}" for kind in "sm")
        yield Entry(model, f"tfhub-{I21K}", f"{m}/imagenet21k_classification/1", I21K, classes=CLASSES[I21K])
        yield Entry(model, f"tfhub-{I21K}-features", f"{m}/1", I21K, classes=0)
        yield Entry(model, f"tfhub-{I21K}+{I1K}", f"{m}/ilsvrc2012_classification/1", I1K, I21K, 480)
        yield Entry(model, f"tfhub-{I1K}", f"{s}/ilsvrc2012_classification/1", I1K)
        yield Entry(model, f"tfhub-{I1K}-features", f"{s}/1", I1K, classes=0)
    # CIFAR images are 32 pixels wide, scaled to 128 (big_transfer/bit_hyperrule.py)
    yield Entry("bit_r50x1", "cifar10", f"{BIT}/BiT-M-R50x1-CIFAR10.npz", "cifar10", I21K, 128, CLASSES["cifar10"])
    for size in (160, 224):
        yield Entry("bit_r50x1", f"distilled-{size}", f"{BIT}/distill/R50x1_{size}.npz", I1K, I21K, size)
    for size in (224, 384):
        yield Entry("bit_r152x2", f"distilled-{size}", f"{BIT}/distill/R152x2_T_{size}.npz", I1K, I21K, size)


def _mixers() -> Iterator[Entry]:
    for name in ("B_16", "L_16"):
        model = _ours("mixer", name)
        yield Entry(model, I21K, f"{MIXER}/imagenet21k/Mixer-{name}.npz", I21K, classes=CLASSES[I21K])
        yield Entry(model, I1K, f"{MIXER}/imagenet1k/Mixer-{name}.npz", I1K)
    for name in ("B_16", "B_32"):
        yield Entry(_ours("mixer", name), "sam", f"{MIXER}/sam/Mixer-{name}.npz", I1K)
    for name in ("S_16", "S_32", "B_16", "B_32"):
        yield Entry(_ours("mixer", name), "gsam", f"{MIXER}/gsam/Mixer-{name}.npz", I1K)
    hub = f"{HUB}/sayakpaul/mixer"
    for size in ("b16", "l16"):
        for short, data in (("i21k", I21K), ("i1k", I1K)):
            handle = f"{hub}_{size}_{short}"
            yield Entry(f"mixer_{size}", f"tfhub-{data}", f"{handle}_classification/1", data, classes=CLASSES[data])
            yield Entry(f"mixer_{size}", f"tfhub-{data}-features", f"{handle}_fe/1", data, classes=0)
    for size in ("b16", "b32"):
        yield Entry(f"mixer_{size}", "tfhub-sam", f"{hub}_{size}_sam_classification/1", I1K)
        yield Entry(f"mixer_{size}", "tfhub-sam-features", f"{hub}_{size}_sam_fe/1", I1K, classes=0)


def _entries() -> tuple[Entry, ...]:
    """By architecture, in the order of the specs; the first of each is its default."""
    found = [*_vits(), *_deits(), *_bits(), *_mixers()]
    return tuple(entry for model in SPECS for entry in found if entry.model == model)


ENTRIES = _entries()


def variants(model: str) -> dict[str, Entry]:
    """The released checkpoints of an architecture, its default first."""
    return {entry.variant: entry for entry in ENTRIES if entry.model == model}
