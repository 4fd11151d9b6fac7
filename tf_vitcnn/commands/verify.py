"""Proves a loaded checkpoint right: its original graph against our model, or the counts of an npz.

tf-vitcnn verify vit_b16@https://tfhub.dev/sayakpaul/vit_b16_classification/1

Exits 0 when they agree, 1 when they do not, 2 for bad input (a wrong architecture is bad input).
"""

from typing import Annotated

import tyro

from tf_vitcnn.commands.edge import call
from tf_vitcnn.devices.start import start_tensorflow


def main(args: list[str], prog: str) -> int | None:
    """Parses the command line and runs."""
    return call(check, args, prog, __doc__)


def check(spec: Annotated[str, tyro.conf.Positional], images: int = 4, seed: int = 0) -> int:
    """Largest difference between a checkpoint's original and our model.

    Args:
        spec: what to verify: vit_b32@FILE.npz, vit_b16@DIR, bit_r50x1@https://tfhub.dev/google/bit/m-r50x1/1, ...
        images: how many random images both see.
        seed: of the images.
    """
    from tf_vitcnn.checkpoints.load import resolved
    from tf_vitcnn.checkpoints.verify import verify

    resolved(spec)  # what cannot be found is refused before TensorFlow loads
    start_tensorflow()
    report = verify(spec, images, seed)
    print("\n".join(report.lines))
    if report.agrees is not None:
        print("agrees" if report.agrees else "DISAGREES")
    return 1 if report.agrees is False else 0
