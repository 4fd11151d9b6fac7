"""What timm or transformers answers, by a process of its own: PyTorch and TensorFlow do not share one well.

python -m tf_vitcnn.checkpoints.original DIALECT FOLDER IMAGES.npy ANSWER.npy SIDE

Needs the library, PyTorch and NumPy, nothing else of ours. SIDE is the image size that positions were stored for, 0 for
none. Exits 3 where a package is missing; any other failure ends in a traceback, whose last line is the reason.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

MISSING = 3
TOWERS = {  # of whose two towers only the image's is ours
    **{"clip": "CLIPVisionModelWithProjection", "siglip": "SiglipVisionModel"},
    **{"clip_vision_model": "CLIPVisionModelWithProjection", "siglip_vision_model": "SiglipVisionModel"},
}


def of_timm(folder: str, pixels: Any, stored: int) -> Any:
    """Timm's answer for images [n, 3, h, w]."""
    import timm

    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    if hasattr(model, "set_input_size") and tuple(pixels.shape[-2:]) != (stored, stored):
        model.set_input_size(img_size=tuple(pixels.shape[-2:]))
    return model(pixels)


def of_transformers(folder: str, pixels: Any, stored: int) -> Any:
    """Transformers' answer: logits, projected or pooled features; the class token's or the mean of tokens alone."""
    import torch
    import transformers

    config = json.loads((Path(folder) / "config.json").read_text())
    kind = str(config.get("model_type"))
    listed = config.get("architectures") or ["AutoModel"]
    model = getattr(transformers, TOWERS.get(kind, listed[0])).from_pretrained(folder).eval()
    flags: dict[str, Any] = {}
    if stored and pixels.shape[-1] != stored and not kind.startswith("dino"):
        flags["interpolate_pos_encoding"] = True
    if kind == "vit_mae":  # nothing masked, the order as it is
        model.config.mask_ratio = 0.0
        patches = (pixels.shape[-2] // config["patch_size"]) * (pixels.shape[-1] // config["patch_size"])
        flags["noise"] = torch.arange(patches, dtype=torch.float32)[None].repeat(len(pixels), 1)
    out = model(pixels, **flags)
    if kind == "vit_mae":
        return out.last_hidden_state[:, 0]
    answers = (getattr(out, key, None) for key in ("logits", "image_embeds", "pooler_output"))
    found = next((answer for answer in answers if answer is not None), None)
    return out.last_hidden_state.mean(1) if found is None else found.flatten(1)


def main(dialect: str, folder: str, images: str, answer: str, stored: str) -> int:
    """Writes the answer."""
    os.environ["USE_TF"] = "0"
    try:
        import numpy as np
        import torch

        __import__({"timm": "timm", "hf": "transformers"}[dialect])
    except ImportError:
        return MISSING
    with torch.inference_mode():
        pixels = torch.from_numpy(np.ascontiguousarray(np.load(images).transpose(0, 3, 1, 2)))
        found = {"timm": of_timm, "hf": of_transformers}[dialect](folder, pixels, int(stored))
        np.save(answer, found.float().numpy())
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
