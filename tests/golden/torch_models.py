"""Makes tests/golden/torch: what timm and transformers compute from weights drawn by a rule (torch_seeded.py).

python -m tests.golden.torch_models [CASE ...]     in a venv of its own, with the packages of torch_requirements.txt

Each case holds the configuration as the library writes it, names and shapes of the state dict as the file has them,
and for two seeded images: the answer, ten numbers of every sublayer by our names, and the answer at another size.
"""

import json
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from tests.golden import seeded, torch_seeded

SIZE, OTHER = 32, (40, 24)
SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 7}
# case: architecture of timm, arguments that make it small
TIMM = {
    "augreg": ("vit_base_patch16_224", {}),
    "augreg_qk_norm": ("vit_base_patch16_224", {"qk_norm": True}),
    "deit": ("deit_base_patch16_224", {}),
    "deit_distilled": ("deit_base_distilled_patch16_224", {}),
    "deit3": ("deit3_base_patch16_224", {}),
    "dinov2": ("vit_small_patch14_dinov2", {"num_classes": 0}),
    "dinov2_giant_reg4": ("vit_giant_patch14_reg4_dinov2", {"num_classes": 0}),
    "clip_openai": ("vit_base_patch32_clip_quickgelu_224", {}),
    "clip": ("vit_base_patch16_clip_224", {}),
    "siglip": ("vit_base_patch16_siglip_224", {"num_classes": 0}),
    "siglip_tanh": ("vit_so400m_patch16_siglip_256", {"num_classes": 0}),
    "siglip_gap": ("vit_base_patch16_siglip_gap_224", {"num_classes": 0}),
    "eva_large": ("eva_large_patch14_196", {}),
    "ijepa": ("vit_huge_patch14_gap_224", {"num_classes": 0}),
    "reg4_gap": ("vit_base_patch16_reg4_gap_256", {}),
    "so150m_map": ("vit_so150m_patch16_reg4_map_256", {}),
    "aimv2": ("aimv2_large_patch14_224", {"num_classes": 0}),
    "dinov3": ("vit_small_patch16_dinov3", {"num_classes": 0}),
    "dinov3_plus_qkvb": ("vit_huge_plus_patch16_dinov3_qkvb", {"num_classes": 0}),
    "test_vit": ("test_vit", None),
    "test_vit2": ("test_vit2", None),
    "test_vit3": ("test_vit3", None),
    "test_vit4": ("test_vit4", None),
}
CHANNELS = {"layers": [1, 2, 1, 1], "channels": (20, 24, 32, 40), "num_classes": 7}
SHALLOW = {"depths": (1, 2, 1, 1), "dims": (20, 24, 32, 40), "num_classes": 7}
TIMM_CONV = {
    "resnet50": ("resnet50", CHANNELS),
    "resnet18": ("resnet18", CHANNELS),
    "resnet50d": ("resnet50d", {**CHANNELS, "stem_width": 12}),
    "resnet18d": ("resnet18d", {**CHANNELS, "stem_width": 12}),
    "resnext": ("resnext50_32x4d", {**CHANNELS, "cardinality": 4, "base_width": 32}),
    "wide_resnet": ("wide_resnet50_2", CHANNELS),
    "convnext": ("convnext_tiny", SHALLOW),
    "convnext_conv_mlp": ("convnext_nano", SHALLOW),
    "convnext_norm_first": ("convnext_tiny_hnf", SHALLOW),
    "convnextv2": ("convnextv2_tiny", SHALLOW),
}
HF = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 80}
HF |= {"image_size": 32, "patch_size": 8}
LABELS = {"num_labels": 7}
# case: model, configuration, arguments; "_new" cases bear the newer names, which only memory has yet
TRANSFORMERS = {
    "vit": ("ViTForImageClassification", "ViTConfig", LABELS),
    "vit_new": ("ViTForImageClassification", "ViTConfig", LABELS),
    "vit_pooler": ("ViTModel", "ViTConfig", {}),
    "deit": ("DeiTForImageClassificationWithTeacher", "DeiTConfig", LABELS),
    "mae": ("ViTMAEModel", "ViTMAEConfig", {"mask_ratio": 0.0}),
    "ijepa": ("IJepaModel", "IJepaConfig", {}),
    "dinov2": ("Dinov2Model", "Dinov2Config", {"mlp_ratio": 2}),
    "dinov2_new": ("Dinov2Model", "Dinov2Config", {"mlp_ratio": 2}),
    "dinov2_swiglu": ("Dinov2Model", "Dinov2Config", {"mlp_ratio": 2, "use_swiglu_ffn": True}),
    "dinov2_head": ("Dinov2ForImageClassification", "Dinov2Config", {"mlp_ratio": 2, **LABELS}),
    "dinov2_registers": ("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", {"mlp_ratio": 2}),
    "dinov3": ("DINOv3ViTModel", "DINOv3ViTConfig", {"num_register_tokens": 4}),
    "dinov3_gated_new": ("DINOv3ViTModel", "DINOv3ViTConfig", {"num_register_tokens": 4, "use_gated_mlp": True}),
    "clip": ("CLIPVisionModelWithProjection", "CLIPVisionConfig", {"projection_dim": 24}),
    "siglip": ("SiglipVisionModel", "SiglipVisionConfig", {}),
}
STAGES = {"hidden_sizes": [16, 24, 32, 40], "depths": [1, 2, 1, 1], **LABELS}
TRANSFORMERS_CONV = {
    "resnet": ("ResNetForImageClassification", "ResNetConfig", {**STAGES, "embedding_size": 8}),
    "resnet_basic": (
        "ResNetForImageClassification",
        "ResNetConfig",
        {**STAGES, "embedding_size": 8, "layer_type": "basic"},
    ),
    "convnext": ("ConvNextForImageClassification", "ConvNextConfig", STAGES),
    "convnextv2": ("ConvNextV2ForImageClassification", "ConvNextV2Config", STAGES),
    "dinov3_convnext": (
        "DINOv3ConvNextModel",
        "DINOv3ConvNextConfig",
        {k: STAGES[k] for k in ("hidden_sizes", "depths")},
    ),
}
# a module's name in timm, our tap
TAPS = (
    (r"stem|bn1", "stem/norm"),
    (r"maxpool", "stem/pool"),
    (r"layer(\d)\.(\d+)", "stage{}/unit{:02}/resid/post"),
    (r"layer(\d)\.(\d+)\.bn1", "stage{}/unit{:02}/norm1/out"),
    (r"layer(\d)\.(\d+)\.downsample", "stage{}/unit{:02}/skip/out"),
    (r"stages\.(\d)\.downsample", "stage{}+/down/conv"),
    (r"stages\.(\d)\.blocks\.(\d+)", "stage{}+/unit{:02}/resid/post"),
    (r"stages\.(\d)\.blocks\.(\d+)\.conv_dw", "stage{}+/unit{:02}/conv1/out"),
    (r"stages\.(\d)\.blocks\.(\d+)\.mlp", "stage{}+/unit{:02}/mlp/out"),
    (r"patch_embed\.norm", "stem/embed_norm"),
    (r"norm_pre", "stem/ln"),
    (r"blocks\.(\d+)", "block{:02}/resid/post"),
    (r"blocks\.(\d+)\.norm1", "block{:02}/ln1/out"),
    (r"blocks\.(\d+)\.attn\.attn_drop", "block{:02}/attn/probs"),
    (r"blocks\.(\d+)\.attn", "block{:02}/attn/out"),
    (r"blocks\.(\d+)\.ls1", "block{:02}/ls1/out"),
    (r"blocks\.(\d+)\.norm2", "block{:02}/ln2/out"),
    (r"blocks\.(\d+)\.mlp\.fc1_g", "block{:02}/mlp/gate"),
    (r"blocks\.(\d+)\.mlp", "block{:02}/mlp/out"),
    (r"blocks\.(\d+)\.ls2", "block{:02}/ls2/out"),
    (r"norm", "final/ln/out"),
    (r"fc_norm", "head/norm"),
    (r"attn_pool", "head/pooled"),
)


def images(size):
    """Two seeded images [2, 3, h, w], smooth with fine noise."""
    full = torch.from_numpy(seeded.images(2, max(size)).transpose(0, 3, 1, 2).copy())
    return full[:, :, : size[0], : size[1]]


def filled(model):
    """The model with drawn weights; those that it shares or never reads included."""
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.from_numpy(torch_seeded.draw(name, tuple(value.shape))))
    return model.eval()


def last(value):
    """A convolutional network's map with its channels last: all our maps are square, no side is a width."""
    return (value.permute(0, 2, 3, 1) if value.ndim == 4 and value.shape[2] == value.shape[3] else value).numpy()


def timm_case(name):
    """What timm makes of a case."""
    import timm

    timm.layers.set_fused_attn(False)  # so that probabilities exist
    architecture, given = {**TIMM, **TIMM_CONV}[name]
    convolutional = name in TIMM_CONV
    turned = last if convolutional else torch.Tensor.numpy
    small = {} if convolutional else SMALL
    arguments = {"img_size": 64, "num_classes": 7} if given is None else {**small, **given}
    model = filled(timm.create_model(architecture, **arguments))
    size = (arguments.get("img_size", 64),) * 2
    found, seen = {}, {}
    for module_name, module in model.named_modules():
        for pattern, tap in TAPS:
            if (match := re.fullmatch(pattern, module_name)) and not isinstance(module, torch.nn.Identity):
                tap = tap.format(*map(int, match.groups()))
                tap = tap.replace("stem/ln", "final/norm/out") if convolutional else tap
                tap = re.sub(r"(\d)\+", lambda found: str(int(found[1]) + 1), tap)  # ours count stages from 1
                module.register_forward_hook(lambda _, __, out, tap=tap: seen.__setitem__(tap, turned(out).copy()))
    with torch.no_grad():
        found["answer"] = model(images(size)).numpy()
    found["taps"] = {tap: seeded.summary(value).tolist() for tap, value in seen.items()}
    cfg = dict(model.pretrained_cfg, input_size=[3, *size])
    kept = ("input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std", "fixed_input_size")
    config = {
        **{"architecture": architecture, "num_classes": model.num_classes, "num_features": model.num_features},
        **{"global_pool": "avg" if convolutional else model.global_pool, "model_args": arguments},
        "pretrained_cfg": {key: cfg[key] for key in kept if key in cfg},
    }
    shapes = {key: list(value.shape) for key, value in model.state_dict().items()}
    other = (96, 80) if given is None else (96, 64) if convolutional else OTHER
    with torch.no_grad():
        if hasattr(model, "set_input_size"):
            model.set_input_size(img_size=other)
        found["answer_other"] = model(images(other)).numpy()
    return {**found, "config": config, "shapes": shapes, "size": size, "size_other": other}


def transformers_case(name):
    """What transformers makes of a case."""
    import transformers

    model_name, config_name, arguments = {**TRANSFORMERS, **TRANSFORMERS_CONV}[name]
    if name in TRANSFORMERS_CONV:
        return transformers_conv_case(model_name, config_name, arguments)
    given = {**HF, **arguments}
    if config_name.startswith("Dinov2"):
        given.pop("intermediate_size")
    config = getattr(transformers, config_name)(**given, attn_implementation="eager")
    model = getattr(transformers, model_name)(config)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        written = json.loads((Path(folder) / "config.json").read_text())
        if not name.endswith("_new"):
            # the names of the file are what is drawn
            from safetensors.torch import load_file, save_file

            path = Path(folder) / "model.safetensors"
            drawn = {
                key: torch.from_numpy(torch_seeded.draw(key, tuple(v.shape))) for key, v in load_file(path).items()
            }
            save_file(drawn, path, metadata={"format": "pt"})
            model = getattr(transformers, model_name).from_pretrained(folder, attn_implementation="eager").eval()
            shapes = {key: list(value.shape) for key, value in drawn.items()}
        else:
            model = filled(model)
            shapes = {key: list(value.shape) for key, value in model.state_dict().items()}
    if name == "mae":  # positions of the encoder are no parameter that learns, and noise orders the tokens
        model.config.mask_ratio = 0.0
    found = _answers(model, images((SIZE, SIZE)), "answer", True)
    if name not in ("mae",):
        found |= _answers(model, images(OTHER), "answer_other", False)
    return {**found, "config": written, "shapes": shapes, "size": (SIZE, SIZE), "size_other": OTHER}


def transformers_conv_case(model_name, config_name, arguments):
    """What transformers makes of a convolutional network."""
    import transformers

    model = filled(getattr(transformers, model_name)(getattr(transformers, config_name)(**arguments)))
    shapes = {key: list(value.shape) for key, value in model.state_dict().items()}
    config = {**model.config.to_dict(), "architectures": [model_name]}
    found = {"config": config, "shapes": shapes, "size": (64, 64), "size_other": (96, 64)}
    for key, size in (("answer", (64, 64)), ("answer_other", (96, 64))):
        with torch.no_grad():
            out = model(images(size), output_hidden_states=True)
        found[key] = (out.logits if hasattr(out, "logits") else out.pooler_output).numpy()
    units = arguments["depths"]
    with torch.no_grad():
        states = model(images((64, 64)), output_hidden_states=True).hidden_states[-len(units) :]
    taps = {f"stage{i + 1}/unit{n - 1:02}/resid/post": h for i, (n, h) in enumerate(zip(units, states, strict=True))}
    found["taps"] = {tap: seeded.summary(value.permute(0, 2, 3, 1).numpy()).tolist() for tap, value in taps.items()}
    return found


def _answers(model, pixels, key, sublayers):
    more = {} if model.config.model_type in ("dinov2", "dinov2_with_registers", "dinov3_vit") else None
    flags = {"output_hidden_states": True, "output_attentions": True}
    if more is None and pixels.shape[-1] != pixels.shape[-2]:
        flags["interpolate_pos_encoding"] = True
    if model.config.model_type == "vit_mae":
        side = SIZE // HF["patch_size"]
        flags["noise"] = torch.arange(side**2, dtype=torch.float32)[None].repeat(2, 1)
    with torch.no_grad():
        out = model(pixels, **flags)
    answer = next(
        (getattr(out, k) for k in ("logits", "image_embeds", "pooler_output") if getattr(out, k, None) is not None),
        None,
    )
    if answer is None:  # I-JEPA and MAE answer with tokens alone
        answer = out.last_hidden_state.mean(1) if model.config.model_type == "ijepa" else out.last_hidden_state[:, 0]
    found = {key: answer.numpy()}
    if sublayers:
        taps = {f"block{i:02}/resid/post": h for i, h in enumerate(out.hidden_states[1:])}
        taps |= {f"block{i:02}/attn/probs": p for i, p in enumerate(out.attentions or ())}
        found["taps"] = {tap: seeded.summary(value.numpy()).tolist() for tap, value in taps.items()}
    return found


def resampling():
    """A small grid of positions at other sizes, by PyTorch."""
    from torch.nn.functional import interpolate

    grid = torch_seeded.draw("grid", (7, 7, 4))
    found = {"grid": grid}
    for antialias in (True, False):
        for size in ((3, 5), (5, 11), (16, 16), (7, 4)):
            new = interpolate(
                torch.from_numpy(grid.transpose(2, 0, 1)[None].copy()), size=size, mode="bicubic", antialias=antialias
            )
            found[f"{'antialiased' if antialias else 'bicubic'}_{size[0]}_{size[1]}"] = new[0].permute(1, 2, 0).numpy()
    return found


def architectures():
    """What timm's code decides and no weight shows: width, heads, GELU, epsilon; "-" for blocks that are not ours."""
    import timm

    names = (
        timm.list_models(module="vision_transformer") + timm.list_models(module="deit") + timm.list_models("*dinov3*")
    )
    lines = []
    for name in names:
        with torch.device("meta"):
            model = timm.create_model(name)
        block = model.blocks[0]
        if type(block).__name__ not in ("Block", "EvaBlock") or type(block.attn).__name__ not in (
            "Attention",
            "EvaAttention",
        ):
            lines.append(f"{name} -")
            continue
        act = block.mlp.act
        gelu = {"QuickGELU": "quick", "GELUTanh": "tanh", "SiLU": "silu"}.get(type(act).__name__, "exact")
        lines.append(f"{name} {model.embed_dim} {block.attn.num_heads} {gelu} {block.norm1.eps:g}")
    return lines


def main(wanted):
    """Writes the cases."""
    torch_seeded.HERE.mkdir(exist_ok=True)
    (torch_seeded.HERE / "timm_architectures.txt").write_text("\n".join(architectures()) + "\n")
    np.savez_compressed(torch_seeded.HERE / "resample.npz", **resampling())
    everything = [*(("timm", name) for name in (*TIMM, *TIMM_CONV))]
    everything += [("hf", name) for name in (*TRANSFORMERS, *TRANSFORMERS_CONV)]
    for dialect, name in everything:
        if wanted and f"{dialect}_{name}" not in wanted:
            continue
        found = (timm_case if dialect == "timm" else transformers_case)(name)
        texts = {key: json.dumps(found.pop(key)) for key in ("config", "shapes", "taps")}
        np.savez_compressed(torch_seeded.HERE / f"{dialect}_{name}.npz", **found, **texts)
        print(f"{dialect}_{name}", found["answer"].shape, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
