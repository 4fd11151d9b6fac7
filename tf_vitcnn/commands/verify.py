"""A checkpoint's original against our model, or its counts.

Of a SavedModel, and of timm: and hf: where PyTorch is installed, the largest difference between what the original and
our model answer; of other files, arrays and parameters there and here. Exits 0 when they agree, 1 when they do not,
2 for bad input (a wrong architecture is bad input).
"""

import dataclasses

from tf_vitcnn.commands.flags import PLACE, Page, parse_one
from tf_vitcnn.devices.start import start_tensorflow

EXAMPLE = "vit_b16@https://tfhub.dev/sayakpaul/vit_b16_classification/1"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """What is looked at."""

    spec: str = dataclasses.field(metadata=PLACE)
    """vit_b32@FILE.npz, vit_b16@DIR, bit_r50x1@https://tfhub.dev/google/bit/m-r50x1/1, ..."""
    images: int = 4
    """random images that both see"""
    seed: int = 0
    """of the images"""
    python: str | None = None
    """the interpreter that has torch and timm or transformers, for timm: and hf:; this one by default"""


def main(args: list[str], prog: str) -> int | None:
    """Parses the command line and runs."""
    return check(parse_one(Flags, args, Page(prog, __doc__ or "", f"{prog} {EXAMPLE}")))


def check(flags: Flags) -> int:
    """Prints the comparison; the exit status."""
    from tf_vitcnn.checkpoints.load import resolved
    from tf_vitcnn.checkpoints.verify import verify

    resolved(flags.spec)  # what cannot be found is refused before TensorFlow loads
    start_tensorflow()
    found = verify(flags.spec, flags.images, flags.seed, flags.python)
    print("\n".join(found.lines))
    if found.agrees is not None:
        print("agrees" if found.agrees else "DISAGREES")
    return 1 if found.agrees is False else 0
