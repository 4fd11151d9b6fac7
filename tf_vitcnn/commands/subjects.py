"""The networks that a plan is given: [[subject]] entries beside those that it trains.

[[subject]]
name = "dinov2_small"
weights = "$DATA/dinov2_small.safetensors"   # a checkpoint without its configuration: laid beside it
config = { model_type = "dinov2", ... }      # config.json of a .safetensors file; `card` of a .keras file

[[subject]]
name = "random_dinov2_small"
spec = "hf@{out}/subjects/dinov2_small@random"   # any spec that analyze takes
resize = "bicubic"                           # and its flags: values, resize, crop, family
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tf_vitcnn.commands.networks import SAID
from tf_vitcnn.errors import BadInput, unknown
from tf_vitcnn.tables.files import write_text
from tf_vitcnn.training import plan

KNOWN = ("name", "spec", "weights", "config", "card", *SAID)


@dataclass(frozen=True)
class Given:
    """A network that is there already."""

    name: str
    spec: str
    weights: Path | None = None
    beside: Mapping[str, Any] = field(default_factory=dict)  # its config.json, or its card
    said: Mapping[str, str] = field(default_factory=dict)

    def flags(self, prefix: str = "") -> list[str]:
        """How `analyze` is told of it; `against-`: as the other model."""
        model = "--against" if prefix else "--model"
        said = [part for name, value in self.said.items() for part in (f"--{prefix}{name}", value)]
        return [model, self.spec, f"--{prefix}name", self.name, *said]

    def lay_out(self) -> None:
        """Puts weights and configuration where the spec expects them."""
        if self.weights is None:
            return
        if not self.weights.is_file():
            raise BadInput(f"{self.weights}: no such file; expected the weights of {self.name}")
        target, beside = _places(self.spec, self.weights)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            target.unlink(missing_ok=True)  # a link whose file has moved
            target.symlink_to(self.weights.resolve())
        if self.beside:
            write_text(beside, json.dumps(dict(self.beside), indent=1) + "\n")


def _places(spec: str, weights: Path) -> tuple[Path, Path]:
    """Where weights and what goes with them lie."""
    if weights.suffix == ".keras":
        path = Path(spec)
        return path, path.with_name(f"{path.stem}.card.json")
    folder = Path(spec.partition("@")[2])
    return folder / "model.safetensors", folder / "config.json"


def read(path: Path, out: Path) -> dict[str, Given]:
    """The networks of a plan by name, variables filled in; empty where it has none."""
    found: dict[str, Given] = {}
    for given in _each(path, out):
        if given.name in found:
            raise BadInput(f"{path}: two subjects are called {given.name!r}")
        found[given.name] = given
    return found


def _each(path: Path, out: Path) -> Iterator[Given]:
    for entry in plan.load(path).get("subject", []):
        name = entry.get("name")
        if not isinstance(name, str):
            raise BadInput(f"{path}: each subject needs a name, got {name!r}")
        where = f"{path}, subject {name!r}"
        for key in entry:
            if key not in KNOWN:
                raise unknown(f"setting in {where}", key, KNOWN)
        text: dict[str, Any] = {k: plan.filled(v, out, where) if isinstance(v, str) else v for k, v in entry.items()}
        weights = Path(text["weights"]).expanduser() if "weights" in text else None
        spec = text.get("spec") or _spec(name, weights, out, where)
        beside = text.get("config") or text.get("card") or {}
        yield Given(name, spec, weights, beside, {key: str(text[key]) for key in SAID if key in text})


def _spec(name: str, weights: Path | None, out: Path, where: str) -> str:
    """What names the network once its files are laid out."""
    kinds = {".keras": f"{out}/subjects/{name}.keras", ".safetensors": f"hf@{out}/subjects/{name}"}
    if weights is None or weights.suffix not in kinds:
        raise BadInput(f"{where}: expected a spec, or weights that end in {' or '.join(kinds)}")
    return kinds[weights.suffix]
