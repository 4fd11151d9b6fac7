"""One file from a server: shown while it comes, resumed where it broke off, checked, fetched by one process at a time.

What has arrived stays in `NAME.part` until all of it is there; the server's own tag of the file says whether the rest
still belongs to it. Size is always compared, a digest where the server gives one.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock
from tqdm import tqdm

from tf_vitcnn.errors import BadInput

TIMEOUT = 30  # seconds without a byte
CHUNK = 1 << 20
TRIES = 5  # in a row without a new byte
PATIENCE = 60  # seconds that a server may ask us to wait
BUSY = (429, 500, 502, 503, 504)
BROKEN = (OSError, http.client.HTTPException)  # a connection that went away, in every spelling of urllib


def download(where: str, url: str, kept: Path, headers: Mapping[str, str] | None = None) -> Path:
    """The file at `kept`, fetched if it is not there; `where` is what messages call it."""
    if kept.is_file():
        return kept
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        # a second process waits, and then finds the file
        with FileLock(f"{kept}.lock"):
            if not kept.is_file():
                _fetch(where, url, kept, dict(headers or {}))
    except BROKEN as error:
        raise unreachable(where, error) from error
    return kept


def unreachable(where: str, error: BaseException | str) -> BadInput:
    """The line for what could not be fetched."""
    reason = " ".join(str(getattr(error, "reason", None) or error).split()).partition(" (Caused")[0][:150]
    return BadInput(f"{where}: cannot be fetched ({reason}); check the network and the name, or give a local path")


def _fetch(where: str, url: str, kept: Path, headers: dict[str, str]) -> None:
    """Brings the file, however often the connection breaks as long as bytes keep coming."""
    part, tag = kept.with_name(f"{kept.name}.part"), kept.with_name(f"{kept.name}.tag")
    idle, there = 0, -1
    while True:
        there, before = (part.stat().st_size if part.is_file() else 0), there
        idle = 0 if there > before else idle + 1
        try:
            found = _rest(url, part, tag, headers)
            break
        except urllib.error.HTTPError as error:
            _refused(where, error, idle)
        except urllib.error.URLError as error:
            if not there:  # no way to the server at all
                raise
            _again(where, there, idle, error)
        except BROKEN as error:
            _again(where, there, idle, error)
    _checked(where, part, tag, found)
    part.replace(kept)
    tag.unlink(missing_ok=True)


def _again(where: str, there: int, idle: int, error: Exception) -> None:
    """Waits a little before the next try, unless there were enough without a new byte."""
    if idle >= TRIES:
        told = f"broke off {TRIES} times at {there:,} bytes, which are kept: {_reason(error)}"
        raise unreachable(where, told) from error
    time.sleep(min(2.0**idle / 10, 5))


def _rest(url: str, part: Path, tag: Path, headers: dict[str, str]) -> Any:
    """Appends what is missing to the part; the answer's headers."""
    there = part.stat().st_size if part.is_file() and tag.is_file() else 0
    asked = {**headers, **({"Range": f"bytes={there}-", "If-Range": tag.read_text()} if there else {})}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=asked), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()  # an answer all the same, with a connection
        whole = (error.headers.get("Content-Range") or "").rpartition("/")[2]
        if error.code != 416 or not whole.isdigit():
            raise
        if int(whole) == there:
            return error.headers  # all of it was there already
        if int(whole) < there:
            part.unlink()  # of another file
        raise OSError(f"{there:,} of {int(whole):,} bytes arrived") from error
    with response:
        resumed = response.status == 206 and (response.headers.get("Content-Range") or "").startswith(f"bytes {there}-")
        there = there if resumed else 0
        if mark := response.headers.get("ETag") or response.headers.get("Last-Modified"):
            tag.write_text(mark)
        length = response.headers.get("Content-Length")
        total = there + int(length) if length and length.isdigit() else None
        with part.open("ab" if resumed else "wb") as file, _bar(part.stem, total, there) as bar:
            while data := response.read(CHUNK):
                file.write(data)
                bar.update(len(data))
        done = part.stat().st_size
        if total is not None and done != total:
            raise OSError(f"{done:,} of {total:,} bytes arrived")
        return response.headers


def _bar(name: str, total: int | None, there: int) -> Any:
    """Size and rate: a bar on a terminal, one line a minute elsewhere."""
    pace = {} if sys.stderr.isatty() else {"mininterval": 60.0, "delay": 60.0}
    return tqdm(
        total=total,
        initial=there,
        desc=name,
        unit="B",
        unit_scale=True,
        unit_divisor=1024,
        leave=False,
        **pace,
    )


def _refused(where: str, error: urllib.error.HTTPError, tries: int) -> None:
    """Waits where that may help; else the line that says what the server said."""
    if error.code in BUSY and tries < TRIES:
        after = error.headers.get("Retry-After") or ""
        wait = float(after) if after.isdigit() else min(2.0**tries / 10, 5)
        if wait <= PATIENCE:
            time.sleep(wait)
            return
        raise unreachable(where, f"{error.code}, too many requests: try again in {after} seconds") from error
    told = {
        401: "401, it wants to know who you are",
        403: "403, it is not for everyone, or you have to agree to its terms first",
        404: "404, there is no such file",
        410: "410, it was taken away",
        429: "429, too many requests: try again later",
    }
    raise unreachable(where, told.get(error.code, f"{error.code} {error.reason}")) from error


def _reason(error: BaseException) -> str:
    return " ".join(str(getattr(error, "reason", None) or error).split())[:100] or type(error).__name__


def _checked(where: str, part: Path, tag: Path, headers: Any) -> None:
    """Compares the digests that came with the answer."""
    for name, expected in digests(headers).items():
        found = hashlib.new(name)
        with part.open("rb") as file:
            while data := file.read(CHUNK):
                found.update(data)
        if found.digest() != expected:
            part.unlink()
            tag.unlink(missing_ok=True)
            raise BadInput(f"{where}: arrived damaged ({name} differs from the server's); fetch it again")


def digests(headers: Any) -> dict[str, bytes]:
    """What a server says of the whole file: Google's `x-goog-hash: md5=...`, or `Repr-Digest: sha-256=:...:`."""
    told = ",".join((*headers.get_all("x-goog-hash", ()), *headers.get_all("Repr-Digest", ())))
    pairs = (piece.strip().partition("=") for piece in told.split(","))
    known = {"md5": "md5", "sha-256": "sha256"}
    return {known[name]: base64.b64decode(value.strip(":")) for name, _, value in pairs if name in known}
