# ruff: noqa: RUF005  (rows in two halves are easier to read)
"""Makes tf_vitcnn/checkpoints/releases.csv: the released checkpoints of timm and transformers that we read.

python -m tests.golden.torch_releases     in the venv of torch_requirements.txt

timm's rows come from its own registry (source, licence, input, statistics; the default of an architecture first), the
number of parameters from its models. transformers' rows are written here, with the parameters of the same network in
timm.
"""

import csv
import re
from functools import cache
from pathlib import Path

import timm
import torch

from tf_vitcnn.checkpoints import timm_vit, torch_conv

OUT = Path(__file__).parents[2] / "tf_vitcnn/checkpoints/releases.csv"
COLUMNS = [
    "spec",
    "family",
    "parameters",
    "licence",
    "image_size",
    "classes",
    "mean",
    "std",
    "resize",
    "crop",
    "trained_on",
    "finetuned_from",
]
FAMILY = (  # the first that a name fits
    (r"dinov3", "dinov3"),
    (r"dinov2", "dinov2"),
    (r"^convnextv2", "convnextv2"),
    (r"^convnext", "convnext"),
    (r"siglip|pali", "siglip"),
    (r"tipsv2", "tips"),
    (r"ijepa", "ijepa"),
    (r"\.dino$", "dino"),
    (r"mae", "mae"),
    (r"clip|laion|openai|dfn|datacomp", "clip"),
    (r"^deit3", "deit3"),
    (r"^deit", "deit"),
    (r"^aimv2", "aimv2"),
    (r"augreg|orig_in21k|sam_in1k", "augreg"),
    (r"^(resnext|wide_resnet|resnet)", "resnet"),
    (r".", "vit"),
)
DATA = (
    (r"in1k", "imagenet2012"),
    (r"in2[12]k", "imagenet21k"),
    (r"in12k", "imagenet12k"),
    (r"^(mae|dino|fcmae|bt|fb|tv\d?|gluon|sw|sam)$", "imagenet2012"),
    (r"lvd1689m", "lvd1689m"),
    (r"lvd142m", "lvd142m"),
    (r"webli|pali", "webli"),
    (r"laion2b", "laion2b"),
    (r"laion400m", "laion400m"),
    (r"openai", "wit400m"),
)
CLIP = "0.48145466 0.4578275 0.40821073", "0.26862954 0.26130258 0.27577711"
IMAGENET = "0.485 0.456 0.406", "0.229 0.224 0.225"
HALF = "0.5 0.5 0.5", "0.5 0.5 0.5"
DINO2 = ("dinov2", "apache-2.0", 224, 0, *IMAGENET, "bicubic", "0.875", "lvd142m", "")
DINO3 = ("dinov3", "dinov3-license", 224, 0, *IMAGENET, "bilinear", "", "lvd1689m", "")
TUNED = ("imagenet2012", "imagenet21k")
TRANSFORMERS = (  # name, the same network in timm, then as COLUMNS without the parameters
    *((f"facebook/dinov2-{s}", f"vit_{s}_patch14_dinov2", *DINO2) for s in ("small", "base", "large", "giant")),
    *(
        (f"facebook/dinov2-with-registers-{s}", f"vit_{s}_patch14_reg4_dinov2", *DINO2)
        for s in ("small", "base", "large", "giant")
    ),
    ("facebook/dinov3-vits16-pretrain-lvd1689m", "vit_small_patch16_dinov3_qkvb", *DINO3),
    ("facebook/dinov3-vits16plus-pretrain-lvd1689m", "vit_small_plus_patch16_dinov3_qkvb", *DINO3),
    ("facebook/dinov3-vitb16-pretrain-lvd1689m", "vit_base_patch16_dinov3_qkvb", *DINO3),
    ("facebook/dinov3-vitl16-pretrain-lvd1689m", "vit_large_patch16_dinov3_qkvb", *DINO3),
    ("facebook/dinov3-vith16plus-pretrain-lvd1689m", "vit_huge_plus_patch16_dinov3_qkvb", *DINO3),
    *((f"facebook/dinov3-convnext-{s}-pretrain-lvd1689m", f"convnext_{s}", *DINO3) for s in ("tiny", "small", "base")),
    *(
        (f"google/siglip-{size}-{p}-{px}", f"vit_{size}_{p}_siglip_{px}", "siglip", "apache-2.0", px, 0, *HALF)
        + ("bicubic", "", "webli", "")
        for size, p, px in (
            *(("base", "patch16", px) for px in (224, 256, 384, 512)),
            *(("large", "patch16", px) for px in (256, 384)),
            ("so400m", "patch14", 384),
        )
    ),
    *(
        (f"openai/clip-vit-{name}", arch, "clip", "mit", px, classes, *CLIP, "bicubic", "1", "wit400m", "")
        for name, arch, px, classes in (
            ("base-patch32", "vit_base_patch32_clip_quickgelu_224", 224, 512),
            ("base-patch16", "vit_base_patch16_clip_quickgelu_224", 224, 512),
            ("large-patch14", "vit_large_patch14_clip_quickgelu_224", 224, 768),
            ("large-patch14-336", "vit_large_patch14_clip_quickgelu_336", 336, 768),
        )
    ),
    *(
        (f"facebook/vit-mae-{s}", f"vit_{s}_patch{p}_224", "mae", "apache-2.0", 224, 0, *IMAGENET)
        + ("bilinear", "", "imagenet2012", "")
        for s, p in (("base", 16), ("large", 16), ("huge", 14))
    ),
    ("facebook/ijepa_vith14_1k", "vit_huge_patch14_gap_224", "ijepa", "cc-by-nc-4.0", 224, 0, *HALF, "bilinear", "")
    + ("imagenet2012", ""),
    *(
        (
            f"google/vit-{s}-patch{p}-{px}",
            f"vit_{s}_patch{p}_{px}",
            "vit",
            "apache-2.0",
            px,
            1000,
            *HALF,
            "bilinear",
            "",
        )
        + TUNED
        for s, p, px in (
            ("base", 16, 224),
            ("base", 16, 384),
            ("base", 32, 384),
            ("large", 16, 224),
            ("large", 32, 384),
        )
    ),
    *(
        (f"facebook/deit-{s}-patch16-224", f"deit_{s}_patch16_224", "deit", "apache-2.0", 224, 1000, *IMAGENET)
        + ("bicubic", "0.875", "imagenet2012", "")
        for s in ("tiny", "small", "base")
    ),
    *(
        (f"microsoft/resnet-{n}", f"resnet{n}", "resnet", "apache-2.0", 224, 1000, *IMAGENET, "bicubic", "0.875")
        + ("imagenet2012", "")
        for n in (18, 26, 34, 50, 101, 152)
    ),
    *(
        (f"facebook/convnext-{s}-224", f"convnext_{s}", "convnext", "apache-2.0", 224, 1000, *IMAGENET)
        + ("bicubic", "0.875", "imagenet2012", "")
        for s in ("tiny", "small", "base", "large")
    ),
)


@cache
def parameters(name, classes):
    """How many, buffers of batch norms included, as we count."""
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=classes)
    return sum(v.numel() for key, v in model.state_dict().items() if not key.endswith("num_batches_tracked"))


def trained(tag):
    """The last data set that a tag names, and the one before."""
    parts = [next((data for pattern, data in DATA if re.search(pattern, part)), part) for part in tag.split("_ft_")]
    last = "imagenet2012" if tag.endswith(("_in1k", "_in1k_384", "_in1k_512")) else parts[-1]
    return last, parts[0] if parts[0] != last else ""


def of_timm():
    """timm's rows, an architecture's default first."""
    for full in timm.list_models(pretrained=True):
        name, _, tag = full.partition(".")
        cfg = timm.models.get_pretrained_cfg(full)
        if not (timm_vit.reads(name) or torch_conv.reads(name)) or cfg.hf_hub_id != f"timm/{full}":
            continue
        first = tag != timm.models.get_pretrained_cfg(name).tag
        family = next(found for pattern, found in FAMILY if re.search(pattern, full))
        mean, std = (" ".join(f"{x:g}" if x == 0.5 else str(x) for x in side) for side in (cfg.mean, cfg.std))
        crop = "" if cfg.crop_mode == "squash" else f"{cfg.crop_pct:g}"
        row = (f"timm:{full}", family, parameters(name, cfg.num_classes), cfg.license or "", cfg.input_size[-1])
        yield (name, first), (*row, cfg.num_classes, mean, std, cfg.interpolation, crop, *trained(tag))


def main():
    """Writes the table."""
    rows = [row for _, row in sorted(of_timm(), key=lambda pair: (pair[1][1], pair[0]))]
    for name, arch, family, licence, size, classes, *rest in TRANSFORMERS:
        rows.append((f"hf:{name}", family, parameters(arch, classes), licence, size, classes, *rest))
    rows.sort(key=lambda row: row[1])
    with OUT.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([COLUMNS, *rows])


if __name__ == "__main__":
    main()
