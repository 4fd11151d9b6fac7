"""What flags say about the networks themselves: how images reach them, their family, where their layers are written."""

import dataclasses
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from tf_vitcnn.errors import BadInput

SAID = ("values", "resize", "crop", "family")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Networks:
    """What the networks are."""

    values: str | None = None
    """the pixels that the model takes: -1..1, 0..1, 0..255, imagenet, caffe, caffe:BLUE,GREEN,RED or
    MEAN,MEAN,MEAN/STD,STD,STD"""
    resize: str | None = None
    """how images are resized: bilinear or bicubic"""
    crop: str | None = None
    """the share of the image that its centre is cut to, or none"""
    family: str | None = None
    """vit, resnet, mixer or other, instead of what the model's graph shows"""
    against_values: str | None = None
    """as --values, for the other model"""
    against_resize: str | None = None
    """as --resize, for the other model"""
    against_crop: str | None = None
    """as --crop, for the other model"""
    against_family: str | None = None
    """as --family, for the other model"""
    imports: tuple[str, ...] = dataclasses.field(default=(), metadata={"word": "import"})
    """modules or Python files that register the layers of a .keras file"""


def said(flags: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `load` is told of either model."""
    both = ({name: getattr(flags, prefix + name) for name in SAID} for prefix in ("", "against_"))
    one, two = ({name: value for name, value in given.items() if value is not None} for given in both)
    return one, two


def import_all(names: tuple[str, ...]) -> None:
    """Imports modules by name, and Python files, so that what they register is known."""
    for name in names:
        _import(name)


def _import(name: str) -> None:
    try:
        if name.endswith(".py"):
            _import_file(Path(name).expanduser())
            return
        if str(Path.cwd()) not in sys.path:  # as `python -m` does
            sys.path.insert(0, str(Path.cwd()))
        importlib.import_module(name)
    except Exception as error:  # whatever the user's own code raises
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise BadInput(f"--import {name}: {reason}") from error


def _import_file(path: Path) -> None:
    if not path.is_file():
        raise BadInput(f"--import {path}: no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader, path
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
