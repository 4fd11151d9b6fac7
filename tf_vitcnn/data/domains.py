"""What kind of pictures a data set holds, in one word: known for named sets, declared for folders and files.

A folder (`folder:DIR`) declares it in `DIR/domain.txt`, a file (`npz:FILE.npz`) in `FILE.domain.txt` beside it: one
word, such as photographs, satellite, medical, drawings. A training's card keeps it.
"""

from __future__ import annotations

import re

from etils import epath

PHOTOGRAPHS, DIGITS = "photographs", "digits"
KNOWN = {
    PHOTOGRAPHS: (
        *("imagenet", "tiny_imagenet", "cifar", "oxford", "caltech", "food101", "stl10", "sun397", "places", "dtd"),
        *("jft", "stanford_dogs", "cars196", "i_naturalist", "coco", "voc", "open_images"),
    ),
    "satellite": ("resisc45", "eurosat", "so2sat", "bigearthnet", "uc_merced"),
    "medical": ("diabetic", "patch_camelyon", "medmnist", "colorectal", "chexpert", "malaria"),
    DIGITS: ("svhn", "mnist", "kmnist", "emnist", "digits"),
}


def of_name(spec: str | None) -> str | None:
    """The kind of a data set by its name (`resisc45:train`); None for one that is not known."""
    name = str(spec or "").lower()
    return next((domain for domain, names in KNOWN.items() if name.startswith(names)), None)


def of(spec: str) -> str | None:
    """The kind of pictures behind a data spec: as declared beside the images, else by the set's name."""
    kind, _, where = spec.partition(":")
    if kind not in ("folder", "npz") or not where:
        return of_name(spec)
    path = epath.Path(where).expanduser()
    declared = path / "domain.txt" if kind == "folder" else path.with_suffix(".domain.txt")
    try:
        word = re.search(r"[a-z]+", declared.read_text()[:200].lower())
    except (OSError, ValueError):
        return None
    return word[0] if word else None
