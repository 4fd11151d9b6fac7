"""Presets and SavedModels of Kaggle, from a server on loopback: kagglehub's own test environment asks at port 7777."""

import base64
import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from typing import ClassVar

import numpy as np
import pytest

from tests.hub import BLOCKS, seeded

keras_hub = pytest.importorskip("keras_hub")
pytest.importorskip("kagglehub", minversion="1.0")  # earlier ones ask elsewhere
PORT = 7777  # the one that kagglesdk has for KAGGLE_API_ENVIRONMENT=TEST
ASK = """
import sys, numpy as np
from tf_vitcnn import load
from tf_vitcnn.errors import BadInput
try:
    subject = load(sys.argv[1])
except BadInput as refused:
    print("refused:", refused)
else:
    x = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("float32")
    print(subject.name, float(np.abs(list(subject.model(x).values())[-1]).sum()))
"""


class Kaggle(http.server.BaseHTTPRequestHandler):
    """Gives the files of one model's version."""

    files: ClassVar[dict] = {}
    wrong = False  # whether a digest is another file's
    asked: ClassVar[list] = []

    def log_message(self, *_):
        pass

    def do_POST(self):
        wanted = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        method = self.path.rpartition("/")[2]
        self.asked.append((method, wanted.get("path")))
        if wanted.get("ownerSlug") != "owner" or wanted.get("path", "config.json") not in self.files:
            return self.answer(404, b"{}", {})
        if method == "DownloadModelInstanceVersion":
            data = self.files[wanted["path"]]
            digest = base64.b64encode(hashlib.md5(b"another" if self.wrong else data).digest()).decode()
            return self.answer(200, data, {"x-goog-hash": f"md5={digest}"})
        listed = [{"name": name, "size": len(data)} for name, data in self.files.items()]
        return self.answer(200, json.dumps({"files": listed, "versionNumber": 1}).encode(), {})

    def answer(self, status, data, headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": len(data)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A preset's files on the server, and the sum of what it answers."""
    backbone = seeded(keras_hub.models.ViTBackbone(**BLOCKS, mlp_dim=24, image_shape=(16, 16, 3)))
    folder = tmp_path_factory.mktemp("kaggle")
    backbone.save_to_preset(str(folder))
    x = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("float32")
    Kaggle.files = {path.name: path.read_bytes() for path in folder.iterdir()}
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Kaggle)
    except OSError:
        pytest.skip(f"port {PORT} is taken")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield float(np.abs(backbone(x)).sum())
    server.shutdown()
    server.server_close()


def asked(spec, cache):
    """What a process of its own says: the environment is read when kagglehub is imported."""
    own = {"KAGGLE_API_ENVIRONMENT": "TEST", "KAGGLEHUB_CACHE": str(cache), "KAGGLE_USERNAME": "me", "KAGGLE_KEY": "k"}
    command = [sys.executable, "-c", ASK, spec]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **own}, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip().splitlines()[-1]


def test_a_preset_is_fetched_once_and_damage_is_found_out(model, tmp_path):
    spec = "keras_hub:kaggle:owner/small/keras/small_vit/1"
    Kaggle.wrong = True
    assert asked(spec, tmp_path).startswith("refused: keras_hub:kaggle:owner/small/keras/small_vit/1: keras-hub cannot")
    Kaggle.wrong = False
    name, total = asked(spec, tmp_path).split()
    assert name == "small_vit"
    assert float(total) == pytest.approx(model, rel=1e-5)
    before = len(Kaggle.asked)
    assert asked(spec, tmp_path).split() == [name, total]
    assert not {path for _, path in Kaggle.asked[before:]} & set(Kaggle.files)
    assert "refused" in asked("keras_hub:kaggle:nobody/small/keras/small_vit/1", tmp_path)
