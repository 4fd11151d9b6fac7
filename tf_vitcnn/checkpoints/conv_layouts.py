"""What ResNets with batch norms and ConvNeXts store: each weight's name in timm, and its shape with us."""

from __future__ import annotations

from collections.abc import Iterator

from tf_vitcnn.checkpoints.row import Row
from tf_vitcnn.models.specs import ConvNeXtSpec, ConvSpec, PostResNetSpec


def conv_rows(spec: ConvSpec, classes: int) -> list[Row]:
    """Every weight of the architecture; `classes=0` leaves the head out."""
    return list(_resnet(spec, classes) if isinstance(spec, PostResNetSpec) else _convnext(spec, classes))


def _batch_norm(target: str, key: str, width: int) -> Iterator[Row]:
    names = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    for ours, theirs in names.items():
        yield Row(f"{target}/{ours}", f"{key}.{theirs}", (width,))


def _norm(target: str, key: str, width: int) -> Iterator[Row]:
    yield Row(f"{target}/gamma", f"{key}.weight", (width,))
    yield Row(f"{target}/beta", f"{key}.bias", (width,))


def _dense(target: str, key: str, *shape: int) -> Iterator[Row]:
    yield Row(f"{target}/kernel", f"{key}.weight", shape)
    yield Row(f"{target}/bias", f"{key}.bias", shape[-1:])


def _resnet(spec: PostResNetSpec, classes: int) -> Iterator[Row]:
    channels = 3
    for i, width in enumerate(spec.stem[:-1]):
        yield Row(f"stem.conv{i}/kernel", f"conv1.{3 * i}.weight", (3, 3, channels, width))
        yield from _batch_norm(f"stem.norm{i}", f"conv1.{3 * i + 1}", width)
        channels = width
    side, name = (7, "conv1") if len(spec.stem) == 1 else (3, "conv1.6")
    yield Row("stem.conv/kernel", f"{name}.weight", (side, side, channels, spec.stem[-1]))
    yield from _batch_norm("stem.norm", "bn1", spec.stem[-1])
    channels = spec.stem[-1]
    for stage, units in enumerate(spec.units):
        for i in range(units):
            yield from _unit(spec, stage, i, channels)
            channels = spec.outer[stage]
    if classes:
        yield from _dense("head.logits", "fc", channels, classes)


def _unit(spec: PostResNetSpec, stage: int, i: int, channels: int) -> Iterator[Row]:
    target, key = f"stage{stage + 1}.unit{i:02d}", f"layer{stage + 1}.{i}"
    inner, outer, width = spec.inner[stage], spec.outer[stage], channels
    sizes = (1, 3, 1) if spec.bottleneck else (3, 3)
    for n, side in enumerate(sizes, 1):
        out = outer if n == len(sizes) else inner
        groups = spec.groups if side == 3 and n < len(sizes) else 1
        yield Row(f"{target}.conv{n}.out/kernel", f"{key}.conv{n}.weight", (side, side, width // groups, out))
        norm = "branch.out" if n == len(sizes) else f"norm{n}.out"
        yield from _batch_norm(f"{target}.{norm}", f"{key}.bn{n}", out)
        width = out
    if (stage and not i) or channels != outer:
        first = 1 if spec.mean_skip else 0
        yield Row(f"{target}.skip.conv/kernel", f"{key}.downsample.{first}.weight", (1, 1, channels, outer))
        yield from _batch_norm(f"{target}.skip.out", f"{key}.downsample.{first + 1}", outer)


def _convnext(spec: ConvNeXtSpec, classes: int) -> Iterator[Row]:
    yield from _dense("stem.conv", "stem.0", spec.patch, spec.patch, 3, spec.widths[0])
    yield from _norm("stem.norm", "stem.1", spec.widths[0])
    for stage, (units, d) in enumerate(zip(spec.units, spec.widths, strict=True)):
        if stage:
            before = spec.widths[stage - 1]
            yield from _norm(f"stage{stage + 1}.down.norm", f"stages.{stage}.downsample.0", before)
            yield from _dense(f"stage{stage + 1}.down.conv", f"stages.{stage}.downsample.1", 2, 2, before, d)
        for i in range(units):
            target, key = f"stage{stage + 1}.unit{i:02d}", f"stages.{stage}.blocks.{i}"
            yield Row(f"{target}.conv1.out/kernel", f"{key}.conv_dw.weight", (spec.kernel, spec.kernel, d, 1))
            yield Row(f"{target}.conv1.out/bias", f"{key}.conv_dw.bias", (d,))
            yield from _norm(f"{target}.norm1.out", f"{key}.norm", d)
            yield from _dense(f"{target}.mlp.pre", f"{key}.mlp.fc1", d, spec.expansion * d)
            if spec.response_norm:
                yield from _norm(f"{target}.mlp.norm", f"{key}.mlp.grn", spec.expansion * d)
            yield from _dense(f"{target}.mlp.out", f"{key}.mlp.fc2", spec.expansion * d, d)
            if spec.layer_scale:
                yield Row(f"{target}.ls1.out/gamma", f"{key}.gamma", (d,))
    if spec.final_norm != "none":
        yield from _norm(*FINAL[spec.final_norm], spec.widths[-1])
    if classes:
        yield from _dense("head.logits", "head.fc", spec.widths[-1], classes)


FINAL = {"pooled": ("head.norm", "head.norm"), "tokens": ("final.norm.out", "norm_pre")}
