"""A repository of the Hugging Face hub as a folder on this machine, through huggingface_hub and its cache.

`HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE` do what they do elsewhere. huggingface_hub shows size and
rate, goes on where it broke off, compares sizes and locks; digests are compared here.
"""

from __future__ import annotations

import difflib
import hashlib
from pathlib import Path

from tf_vitcnn.checkpoints.releases import releases
from tf_vitcnn.checkpoints.safetensors_file import INDEX, NAME, read_json
from tf_vitcnn.errors import BadInput

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"


def folder(spec: str, repository: str) -> Path:
    """The folder of a repository's configuration and weights; `OWNER/NAME@REVISION` for one that is not the newest."""
    name, _, revision = repository.partition("@")
    config = fetched(spec, name, CONFIG, revision)
    fetched(spec, name, PROCESSOR, revision, optional=True)
    try:
        fetched(spec, name, NAME, revision)
    except Missing:
        try:
            index = fetched(spec, name, INDEX, revision)
        except Missing:
            raise BadInput(f"{spec}: the repository has no {NAME}; take one that has, or give a folder") from None
        for part in sorted({str(part) for part in dict(read_json(index).get("weight_map") or {}).values()}):
            fetched(spec, name, part, revision)
    return config.parent


class Missing(BadInput):
    """The repository is there, the file is not."""


def fetched(spec: str, repository: str, file: str, revision: str = "", optional: bool = False) -> Path:
    """A file of a repository in the cache, fetched if it is not there."""
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError as error:
        raise BadInput(f"{spec}: needs huggingface_hub; pip install huggingface_hub, or give a folder") from error
    try:
        known = huggingface_hub.try_to_load_from_cache(repository, file, revision=revision or None)
        found = Path(huggingface_hub.hf_hub_download(repository, file, revision=revision or None))
        if known != str(found):
            _checked(spec, found)
        return found
    except BadInput:
        raise
    except errors.EntryNotFoundError as error:
        if optional:
            return Path()
        # what is not in the cache of a machine without network may well be in the repository
        if isinstance(error, errors.LocalEntryNotFoundError):
            raise BadInput(f"{spec}: {file} is not in the cache, and the hub cannot be reached; {HINT}") from error
        raise Missing(f"{spec}: the repository has no {file}") from error
    except errors.GatedRepoError as error:
        page = f"https://huggingface.co/{repository}"
        raise BadInput(f"{spec}: asks for its terms to be accepted at {page}, and for HF_TOKEN") from error
    except errors.RepositoryNotFoundError as error:
        near = difflib.get_close_matches(spec, [release.spec for release in releases()], 3, 0.7)
        advice = f"nearest of the catalog: {', '.join(near)}" if near else "check the name, or set HF_TOKEN"
        raise BadInput(f"{spec}: no such repository, or a private one; {advice}") from error
    except Exception as error:  # HTTP's, the validator's, the file system's: it was not fetched
        reason = " ".join(str(error).split())[:150]
        raise BadInput(f"{spec}: {file} cannot be fetched ({reason}); {HINT}") from error


def _checked(spec: str, path: Path) -> None:
    """Compares a new file with its digest: what is large is kept under its SHA-256."""
    blob = path.resolve()
    if len(blob.name) != 64:
        return
    digest = hashlib.sha256()
    with blob.open("rb") as file:
        while data := file.read(1 << 20):
            digest.update(data)
    if digest.hexdigest() != blob.name:
        blob.unlink()
        path.unlink(missing_ok=True)
        raise BadInput(f"{spec}: {path.name} arrived damaged (SHA-256 differs from the hub's); fetch it again")


HINT = "check the network and the name, or give a folder (timm@DIR, hf@DIR)"
