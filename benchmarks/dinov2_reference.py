"""DINOv2 ViT-S/14 beside another runtime: the largest difference of each sublayer over its largest value.

python benchmarks/dinov2_reference.py --weights FILE.safetensors --reference FILE.npz

The weights bear transformers' names; the reference holds `images` (uint8) and what onnxruntime made of them: sublayers
by our names at every `every`-th token, attention probabilities of the first queries. Exits 1 above `--at-most`.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np

from tf_vitcnn import Subject, load
from tf_vitcnn.data.images import normalize

CONFIG = {
    **{"model_type": "dinov2", "hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "mlp_ratio": 4},
    **{"hidden_act": "gelu", "layer_norm_eps": 1e-6, "image_size": 518, "patch_size": 14, "use_swiglu_ffn": False},
}
AFTER_SCALE = {"mlp/out": "ls2/out", "attn/out": "ls1/out"}  # the reference's branches are what the stream receives


def released(weights: Path) -> Subject:
    """The network of weights that transformers names."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(CONFIG))
        shutil.copyfile(weights, Path(folder) / "model.safetensors")
        return load(f"hf@{folder}", name="dinov2_small")


def compared(weights: Path, reference: Path) -> dict[str, float]:
    """Largest relative difference by tap."""
    subject = released(weights)
    with np.load(reference) as file:
        expected = {name: file[name] for name in file.files}
    images = expected.pop("images")
    # the images have the network's size: nothing is to be cropped
    got = subject.model(normalize(images.astype("float32"), subject.preprocessing.values), training=False)
    found = {}
    for name, theirs in expected.items():
        block, _, site = name.partition("/")
        ours = np.asarray(got[f"{block}/{AFTER_SCALE.get(site, site)}"])
        step = -(-ours.shape[1] // theirs.shape[1])
        ours = ours[:, :, : theirs.shape[2]] if site == "attn/probs" else ours[:, ::step]
        found[name] = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    return found


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--at-most", type=float, default=1e-4)
    arguments = parser.parse_args()
    found = compared(arguments.weights, arguments.reference)
    for name, difference in found.items():
        print(f"{name:24} {difference:.2e}")
    print(f"largest {max(found.values()):.2e}, at most {arguments.at_most:g} asked for")
    return int(max(found.values()) > arguments.at_most)


if __name__ == "__main__":
    raise SystemExit(main())
