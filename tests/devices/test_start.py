"""What reaches the terminal: our words, not those of a decoder."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]

CODE = """
import ctypes, os, sys
from tf_vitcnn.devices.start import without_libjpeg
libc = ctypes.CDLL(None)
print("before", file=sys.stderr)
with without_libjpeg():
    for line in (b"Corrupt JPEG data: bad Huffman code", b"F0000 a fatal check failed", b"Bogus marker length"):
        os.write(2, line + b"\\n")
    print("a note of ours", file=sys.stderr, flush=True)
os.write(2, b"Bogus afterwards")
"""


def ran(*words):
    return subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def test_only_libjpegs_lines_are_left_out():
    said = ran("-c", CODE).stderr
    assert sorted(said.splitlines()) == ["Bogus afterwards", "F0000 a fatal check failed", "a note of ours", "before"]


@pytest.fixture
def damaged(tmp_path):
    """Twelve files that only begin like a JPEG, and sixty true ones with wrong bytes or without their end."""
    rng = np.random.default_rng(0)
    for i in range(12):
        (tmp_path / f"begin{i:02}.jpg").write_bytes(b"\xff\xd8\xff\xe0" + rng.bytes(400))
    pixels = Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8))
    for i in range(60):
        buffer = io.BytesIO()
        pixels.save(buffer, "JPEG", progressive=bool(i % 2))
        data = bytearray(buffer.getvalue())
        for place in rng.integers(3, 700, 3):
            data[place] = rng.integers(256)
        (tmp_path / f"wrong{i:02}.jpg").write_bytes(data[: len(data) if i % 3 else rng.integers(300, len(data))])
    return tmp_path


def test_damaged_jpegs_are_one_line(damaged, tmp_path):
    words = ["scripts/analyze.py", "skip_ratio", "--model", "vit_ti16@random", "--image-size", "16"]
    done = ran(*words, "--data", f"folder:{damaged}", "--out", str(tmp_path / "out"))
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if ".jpg: " in line]
    assert len(lines) == 1 and lines[0].endswith("(--skip-bad)")
    assert not any("JPEG" in line or "Bogus" in line for line in done.stderr.splitlines()), done.stderr
