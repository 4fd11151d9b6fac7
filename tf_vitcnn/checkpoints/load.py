"""A subject from its spec string: which architecture, which weights, how images reach it.

vit_b32                      the catalog's default          vit_b32@imagenet21k    a variant of the catalog
vit_b32@FILE.npz, @DIR       a file or SavedModel           vit@FILE               sizes read from the arrays
vit_b32@https://..., @gs://..., @kaggle:...                 fetched once, then cached
vit_b32@random               seeded weights                 FILE.keras             any saved Keras model
keras:ResNet50[@random]      keras.applications             keras_hub:PRESET       a preset, or a folder of one
timm:NAME, hf:OWNER/NAME     safetensors of the hub         timm@DIR, hf@DIR, FILE.safetensors   and of a folder
ANY@random                   the graph of any of these, started again from its layers' initializers with the seed
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tf_vitcnn.checkpoints import catalog, fetch, keras_applications, ours
from tf_vitcnn.checkpoints import twin as twins
from tf_vitcnn.checkpoints.asked import PARTS, Asked
from tf_vitcnn.checkpoints.assign import fill, mismatches
from tf_vitcnn.checkpoints.found import Found
from tf_vitcnn.checkpoints.keras_hub_preset import PREFIX, handle, load_preset
from tf_vitcnn.checkpoints.open import open_checkpoint
from tf_vitcnn.checkpoints.released import is_released, load_released, local, refuse_unreleased
from tf_vitcnn.devices.start import require_tensorflow
from tf_vitcnn.errors import BadInput, unknown
from tf_vitcnn.models.specs import SPECS, ConvSpec, MixerSpec, ResNetSpec, Spec, ViTSpec, family_of

if TYPE_CHECKING:
    from tf_vitcnn.data.images import Preprocessing
    from tf_vitcnn.subject import Subject

FAMILIES = ("vit", "deit", "bit", "mixer")  # sizes come from the arrays
Size = tuple[int, int]


def load(
    spec: Any,
    *,
    image_size: int | tuple[int, int] | None = None,
    seed: int = 0,
    name: str | None = None,
    preprocessing: Preprocessing | dict[str, Any] | None = None,
    values: str | None = None,
    resize: str | None = None,
    crop: str | float | None = None,
    family: str | None = None,
) -> Subject:
    """The network that a spec string names, or a Keras model, with its preprocessing and where it came from.

    Args:
        spec: `vit_b32`, `vit_b32@imagenet21k`, `vit_b32@FILE.npz`, `vit_b32@DIR`, `vit_b32@random`, `vit@FILE`,
            `FILE.keras`, `keras:ResNet50`, ... (the top of this file has them all); or any Keras model.
        image_size: pixels, or (height, width); the checkpoint's own by default.
        seed: of the weights, for `@random`.
        name: of the subject in tables; the spec's name, the file's stem or the model's own by default.
        preprocessing: how images reach the network, whole: a `Preprocessing`, or its fields.
        values: the range of pixels: `-1..1`, `0..1`, `0..255`, `imagenet`, `caffe` or `MEAN,MEAN,MEAN/STD,STD,STD`.
        resize: `bilinear` or `bicubic`.
        crop: the share of the image that its centre is cut to, or `none`.
        family: `vit`, `resnet`, `mixer` or `other`, where the graph does not say it.
    """
    size = _pair(image_size)
    whole = _whole(preprocessing, size)
    if isinstance(spec, str | Path):
        subject = _of_spec(str(spec), size or (whole.size if whole else None), seed, name)
    else:
        subject = _of_model(spec, size, name, whole)
    if whole and isinstance(spec, str | Path):
        given = {field: value for field, value in vars(whole).items() if field != "size"}
        subject = replace(subject, preprocessing=replace(subject.preprocessing, **given))
        subject.provenance["preprocessing_from"] = dict.fromkeys(PARTS, "asked for")
    return Asked(values, resize, crop, family).of(subject)


def _pair(size: int | tuple[int, int] | None) -> Size | None:
    if size is None:
        return None
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _whole(given: Preprocessing | dict[str, Any] | None, size: Size | None) -> Preprocessing | None:
    from tf_vitcnn.data.images import Preprocessing

    if given is None or isinstance(given, Preprocessing):
        return given
    try:
        fields = {"size": size, **given} if size else dict(given)
        return Preprocessing(**{**fields, "size": _pair(fields.get("size"))})
    except TypeError as error:
        known = ", ".join(Preprocessing.__dataclass_fields__)
        raise BadInput(f"preprocessing {given}: expected {known} ({error})") from error


def _of_model(model: Any, image_size: Size | None, name: str | None, whole: Preprocessing | None) -> Subject:
    import keras

    from tf_vitcnn.checkpoints.foreign import foreign

    if not isinstance(model, keras.Model):
        raise BadInput(f"expected a spec or a Keras model, got {type(model).__name__}")
    size = image_size or (whole.size if whole else None)
    about = {"random": False}
    return foreign(name or model.name, f"a model called {model.name}", model, size, whole, about, "asked for")


def _of_spec(spec: str, image_size: Size | None, seed: int, name: str | None) -> Subject:
    base = original(spec)
    if base is None:
        return _of(spec, image_size, seed, name)
    subject = _of(base, image_size, seed, name, random=True)
    subject.provenance["spec"] = spec
    return subject


def original(spec: str) -> str | None:
    """The spec whose random twin is meant; None without `@random`, and where that names an architecture's own."""
    base = spec.removesuffix("@random")
    if base == spec or not (base.endswith(".keras") or is_released(base) or base.startswith(PREFIX) or "@" in base):
        return None
    return base


def _of(spec: str, image_size: Size | None, seed: int, name: str | None, random: bool = False) -> Subject:
    """The subject of a spec; `random`: its twin of this seed."""
    again = seed if random else None
    if spec.endswith(".keras"):
        from tf_vitcnn.checkpoints.keras_file import load_file

        return load_file(spec, image_size, name, again)
    if spec.startswith(PREFIX):
        return load_preset(spec, image_size, name, again)
    if spec.startswith("keras:"):
        from tf_vitcnn.checkpoints.keras_applications import load_application

        return load_application(spec, image_size, seed, name)
    if is_released(spec):
        return load_released(spec, image_size, name, again)
    architecture, where, entry = parsed(spec)
    if where == "random":
        return _random(spec, architecture, image_size or (224, 224), seed, name)
    return _stored(spec, architecture, where, entry, image_size, name, again)


def parsed(spec: str) -> tuple[str, str, catalog.Entry | None]:
    """Architecture, what to open (or `random`), and the catalog's entry if it is one."""
    architecture, at, where = spec.partition("@")
    if not at and spec.endswith((".h5", ".hdf5")):
        instead = f"keras.models.load_model({spec!r}).save({str(Path(spec).with_suffix('.keras'))!r})"
        raise BadInput(f"{spec}: an HDF5 file of Keras; save it again, once: {instead}")
    if not at and (spec.endswith(".npz") or Path(spec).exists()):
        raise BadInput(f"{spec}: which architecture? Expected vit_b32@{spec}, or vit@{spec} to read its sizes")
    if architecture not in SPECS and architecture not in FAMILIES:
        raise unknown("model", architecture, [*SPECS, *(f"{family}@FILE" for family in FAMILIES), "FILE.keras"])
    if at and not where:
        raise BadInput(f"{spec}: nothing after '@'; expected a variant, a file, a folder, a handle or 'random'")
    if where == "random":
        return architecture, where, None
    entry = _entry(architecture, where)
    return architecture, entry.source if entry else where, entry


def refuse_unknown(spec: str) -> None:
    """Refuses a spec that names nothing, without TensorFlow; of the hub's checkpoints their config.json is fetched."""
    spec = original(spec) or spec
    if spec.endswith(".keras"):
        if not Path(spec).expanduser().is_file():
            raise BadInput(f"{spec}: no such file; expected a saved Keras model")
        return
    if spec.startswith("keras:"):
        keras_applications.named(spec)
        return
    if spec.startswith(PREFIX):
        handle(spec)
        return
    if is_released(spec):
        refuse_unreleased(spec)
        return
    architecture, where, _ = parsed(spec)
    if where != "random" and "://" not in where and not where.startswith("kaggle:"):
        fetch.local(where, architecture)


def resolved(spec: str) -> tuple[str, Path] | None:
    """Architecture and local path of a checkpoint; None for a model that has none (random, or Keras' own)."""
    if spec.endswith(".keras") or spec.startswith(("keras:", PREFIX)) or original(spec):
        return None
    require_tensorflow()
    if is_released(spec):
        return local(spec)
    architecture, where, _ = parsed(spec)
    return None if where == "random" else (architecture, fetch.local(where, architecture))


def _entry(architecture: str, where: str) -> catalog.Entry | None:
    """The catalog's entry, the default for no variant; None where a path or a handle stands."""
    known = catalog.variants(architecture)
    if where in known:
        return known[where]
    if not where and known:
        return next(iter(known.values()))
    if not where:
        raise BadInput(f"{architecture}: no released checkpoint; expected {architecture}@FILE or {architecture}@random")
    if "/" in where or Path(where).suffix or Path(where).exists() or where.startswith("kaggle:"):
        return None
    raise unknown(f"variant of {architecture}", where, [*known, "random", "FILE.npz", "DIR"])


def _random(spec: str, architecture: str, image_size: Size, seed: int, name: str | None) -> Subject:
    from tf_vitcnn.models import build

    require_tensorflow()
    if architecture not in SPECS:
        raise BadInput(f"{spec}: random weights need sizes; expected a full name such as {architecture}_b16@random")
    sizes = SPECS[architecture]
    model = build(architecture, image_size=image_size, seed=seed)
    about = {"random": True, "seed": seed}
    return ours.subject(name or architecture, spec, model, sizes, catalog.preprocessing(sizes, image_size), about)


def _stored(
    spec: str,
    architecture: str,
    where: str,
    entry: catalog.Entry | None,
    image_size: Size | None,
    name: str | None,
    again: int | None = None,
) -> Subject:
    """The network with the weights of a file, a folder or a handle; or with those that the seed `again` draws."""
    from tf_vitcnn.models import build

    require_tensorflow()
    found, sizes = checked(architecture, where)
    size = image_size or found.image_size or ((entry.image_size,) * 2 if entry else (224, 224))
    if isinstance(sizes, MixerSpec) and size != found.image_size:
        raise BadInput(f"{spec}: token mixing fixes the image size to {found.image_size}; leave {size} out")
    # zeros: the file has every weight, and random numbers for gigabytes take a while
    model = build(sizes, image_size=size, classes=found.classes, seed=again)
    about: dict[str, Any] = {"source": str(found.source), "random": False, **(entry.about() if entry else {})}
    if again is None:
        fill(model, found, sizes, size)
    else:
        about = twins.about(again, about)
    seen = entry.preprocessing(size) if entry else catalog.preprocessing(sizes, size)
    return ours.subject(name or _default_name(architecture, where), spec, model, sizes, seen, about)


def _default_name(architecture: str, where: str) -> str:
    """The spec's name; a family alone is named after its file."""
    return architecture if architecture in SPECS else Path(where).stem


def checked(architecture: str, where: str) -> tuple[Found, Spec]:
    """A checkpoint that fits the architecture, and the sizes to build (head and `pre_logits` as the file has them)."""
    wanted = SPECS.get(architecture)
    found = open_checkpoint(where, architecture, wanted)
    assert not isinstance(found.spec, ConvSpec), found  # only safetensors hold these
    family = architecture if wanted is None else family_of(wanted)
    expected = {"deit": "vit", "hybrid": "vit"}.get(family, family)
    if found.family != expected:
        raise BadInput(f"{found.source}: holds {describe(found.spec)}; {architecture} expects a {expected} checkpoint")
    sizes = _adapted(wanted, found.spec) if wanted else found.spec
    if isinstance(sizes, ViTSpec) and isinstance(found.spec, ViTSpec):
        gelu = sizes.gelu if wanted else "exact" if architecture == "deit" else found.spec.gelu
        if gelu != found.spec.gelu:
            # the shapes of DeiT are those of ViT, so only the kind of export tells
            raise BadInput(f"{found.source}: holds {describe(found.spec)}; {architecture} has {gelu} GELU")
    wrong = mismatches(found, sizes)
    if wrong and sizes != found.spec and not mismatches(found, found.spec):
        raise BadInput(
            f"{found.source}: holds {describe(found.spec)}; {architecture} is {describe(sizes)}{_hint(found.spec)}"
        )
    if wrong:
        raise BadInput(f"{found.source}: does not fit {architecture}: {wrong}")
    return found, sizes


def _adapted(wanted: Spec, there: Spec) -> Spec:
    """The wanted sizes; whether there is a `pre_logits` layer is the checkpoint's choice."""
    if isinstance(wanted, ViTSpec) and isinstance(there, ViTSpec):
        return replace(wanted, pre_logits=there.pre_logits)
    return wanted


def _hint(spec: Spec) -> str:
    """The name to use instead, if there is one."""
    bare = replace(spec, pre_logits=0) if isinstance(spec, ViTSpec) else spec
    names = [name for name, known in SPECS.items() if known == bare]
    return f"; load it as {names[0]}@..." if names else ""


def describe(spec: Spec) -> str:
    """Sizes in words."""
    if isinstance(spec, ResNetSpec):
        return f"a BiT-ResNet with {'-'.join(map(str, spec.units))} units, {spec.width_factor} times as wide"
    if isinstance(spec, MixerSpec):
        hidden = f"hidden {spec.tokens_mlp} and {spec.channels_mlp}"
        return f"a Mixer with patch {spec.patch}, width {spec.width}, depth {spec.depth}, {hidden}"
    pooled = "distilled" if spec.distilled else f"pooled by {spec.pool}"
    stem = "" if spec.stem is None else f", stem {'-'.join(map(str, spec.stem.units)) or 'root'}"
    sizes = f"patch {spec.patch}, width {spec.width}, depth {spec.depth}, {spec.heads} heads, MLP {spec.mlp}"
    return f"a ViT with {sizes}, {spec.gelu} GELU, {pooled}{stem}"
