"""The card of a trained model: what it is, what it was trained on, how well it does, and what made it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tf_vitcnn.errors import BadInput
from tf_vitcnn.tables.files import write_text

FORMAT = 1


def write(path: Path, card: dict[str, Any]) -> None:
    """The card as JSON, whole or not at all."""
    text = json.dumps({"format": FORMAT, **card}, indent=1, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def read(path: Path) -> dict[str, Any]:
    """The card in a file."""
    try:
        card = json.loads(path.read_text())
        if not isinstance(card, dict) or not isinstance(card["recipe"], dict):
            raise ValueError
    except (OSError, ValueError, KeyError, RecursionError) as error:
        raise BadInput(f"{path}: not the card of a trained model; take another --name or remove it") from error
    return card
