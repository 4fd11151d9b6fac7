"""Downloads from a server on loopback that breaks off, lies and refuses."""

import hashlib
import io
import json
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from safetensors.numpy import save

from tests.checkpoints.server import serving
from tests.checkpoints.test_npz import released
from tests.golden import seeded, torch_seeded
from tf_vitcnn import load
from tf_vitcnn.checkpoints import download as module
from tf_vitcnn.checkpoints.download import download
from tf_vitcnn.errors import BadInput

DATA = np.random.default_rng(0).bytes(300_000)


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)


def fetched(shop, path, name="/file.npz"):
    return download("gs://bucket/file.npz", shop.url + name, path / "kept" / "file.npz").read_bytes()


def refused(shop, path):
    with pytest.raises(BadInput) as error:
        fetched(shop, path)
    line = str(error.value)
    assert "\n" not in line and line.startswith("gs://bucket/file.npz: ")
    assert not (path / "kept" / "file.npz").exists()
    return line


def test_a_broken_download_goes_on_where_it_broke_off(tmp_path):
    with serving(files={"/file.npz": DATA}, breaks=3, digest="goog") as shop:
        assert fetched(shop, tmp_path) == DATA
    starts = [int((asked or "bytes=0-").removeprefix("bytes=").rstrip("-")) for _, _, asked in shop.asked]
    assert starts == [0, 150_000, 225_000, 262_500]
    assert {path.name for path in (tmp_path / "kept").iterdir()} <= {"file.npz", "file.npz.lock"}


def test_what_has_arrived_is_kept_for_another_process(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TRIES", 0)
    with serving(files={"/file.npz": DATA}, breaks=1) as shop:
        assert "broke off" in refused(shop, tmp_path)
        assert (tmp_path / "kept" / "file.npz.part").stat().st_size == 150_000
        assert fetched(shop, tmp_path) == DATA
    assert shop.asked[-1] == ("GET", "/file.npz", "bytes=150000-")


def test_a_file_that_changed_meanwhile_is_fetched_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TRIES", 0)
    with serving(files={"/file.npz": DATA}, breaks=1) as shop:
        refused(shop, tmp_path)
        shop.files["/file.npz"], shop.tag = DATA[::-1], '"two"'
        assert fetched(shop, tmp_path) == DATA[::-1]


def test_a_server_that_lies_about_the_size_is_found_out(tmp_path):
    with serving(files={"/file.npz": DATA}, lie=7) as shop:
        assert "300,000 of 300,007 bytes" in refused(shop, tmp_path)


def test_a_damaged_file_is_found_out_where_the_server_gives_a_digest(tmp_path):
    with serving(files={"/file.npz": DATA}, digest="wrong") as shop:
        assert "arrived damaged (md5" in refused(shop, tmp_path)
        shop.digest = "goog"
        assert fetched(shop, tmp_path) == DATA


@pytest.mark.parametrize(
    ("status", "words"), [(404, "there is no such file"), (403, "not for everyone"), (401, "who you are")]
)
def test_a_refusal_is_one_line(status, words, tmp_path):
    with serving(refuse={"/file.npz": [(status, {})]}) as shop:
        assert words in refused(shop, tmp_path)
    assert len(shop.asked) == 1


def test_a_busy_server_is_asked_again(tmp_path):
    busy = [(429, {"Retry-After": "1"}), (503, {}), (429, {})]
    with serving(files={"/file.npz": DATA}, refuse={"/file.npz": busy}) as shop:
        assert fetched(shop, tmp_path) == DATA
    assert len(shop.asked) == 4


def test_a_server_that_stays_busy_is_one_line(tmp_path):
    with serving(refuse={"/file.npz": [(429, {"Retry-After": "3600"})]}) as shop:
        assert "try again in 3600 seconds" in refused(shop, tmp_path)
    with serving(refuse={"/file.npz": [(429, {})] * 50}) as shop:
        assert "too many requests" in refused(shop, tmp_path)
    assert len(shop.asked) < 10


def test_size_and_rate_are_shown_on_a_terminal(tmp_path, monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(shown, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", shown)
    with serving(files={"/file.npz": DATA}) as shop:
        fetched(shop, tmp_path)
    assert "file.npz" in shown.getvalue() and "B/s" in shown.getvalue() and "293k" in shown.getvalue()


def test_two_processes_fetch_once(tmp_path):
    script = "import sys; from pathlib import Path; from tf_vitcnn.checkpoints.download import download\n"
    script += "print(download('x', sys.argv[1], Path(sys.argv[2])).stat().st_size)"
    with serving(files={"/file.npz": DATA}) as shop:
        command = [sys.executable, "-c", script, f"{shop.url}/file.npz", str(tmp_path / "file.npz")]
        both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        assert [process.communicate(timeout=120)[0].strip() for process in both] == ["300000"] * 2
    assert len(shop.asked) == 1


def test_google_s_storage_is_asked_once(tmp_path, monkeypatch):
    np.savez(tmp_path / "x.npz", **released("vit"))
    data = (tmp_path / "x.npz").read_bytes()
    monkeypatch.setenv("TF_VITCNN_CACHE", str(tmp_path / "cache"))
    with serving(files={"/bucket/folder/x.npz": data}, digest="goog", breaks=1) as shop:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", shop.url)
        first = load("vit@gs://bucket/folder/x.npz")
        again = load("vit@gs://bucket/folder/x.npz")
    assert first.name == "x"
    assert first.provenance["weights_sha256"] == again.provenance["weights_sha256"]
    assert [path for _, path, _ in shop.asked] == ["/bucket/folder/x.npz"] * 2


def packed(folder):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(folder, arcname=".")
    return buffer.getvalue()


def test_a_handle_of_tf_hub_is_fetched_and_unpacked(tmp_path, monkeypatch):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    folder = seeded.HERE / "savedmodels" / "savedmodel_vit_ft"
    with serving(files={"/owner/toy/1": packed(folder), "/owner/page/1": b"<html>"}, breaks=1) as shop:
        subject = load(f"vit@{shop.url}/owner/toy/1")
        with pytest.raises(BadInput, match="no packed SavedModel"):
            load(f"vit@{shop.url}/owner/page/1")
        with pytest.raises(BadInput, match="404"):
            load(f"vit@{shop.url}/owner/none/1")
    assert subject.provenance["weights_sha256"] == load(f"vit@{folder}").provenance["weights_sha256"]
    kept = {path.name for path in tmp_path.iterdir() if path.suffix != ".lock"}
    assert kept == {hashlib.sha1(f"{shop.url}/owner/toy/1".encode()).hexdigest()}


# the hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A repository of the hub on loopback; huggingface_hub reads its settings when it is imported."""
    found = torch_seeded.case("hf_dinov2")
    weights = save(torch_seeded.weights(found["shapes"]))
    config = json.dumps(found["config"]).encode()
    root = "/owner/name/resolve/main"
    files = {f"{root}/config.json": config, f"{root}/model.safetensors": weights}
    commit = {"X-Repo-Commit": "0" * 40}
    headers = {path: {**commit, "ETag": f'"{hashlib.sha256(data).hexdigest()}"'} for path, data in files.items()}
    headers[f"{root}/preprocessor_config.json"] = {**commit, "X-Error-Code": "EntryNotFound"}
    headers["/owner/none/resolve/main/config.json"] = {"X-Error-Code": "RepoNotFound"}
    with serving(files=files, headers=headers) as shop:
        yield shop


SCRIPT = """
import sys, warnings
warnings.simplefilter("ignore")
import huggingface_hub.constants
huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE = 4096  # of a small file as of a large one
from tf_vitcnn.checkpoints.released import opened
from tf_vitcnn.errors import BadInput
try:
    found = opened(sys.argv[1]).found
    print("name", sum(array.values().sum() for array in found.arrays.values()))
except BadInput as error:
    print("REFUSED", error)
"""


def asked(shop, home, spec, **environment):
    import os

    variables = {**os.environ, "HF_HOME": str(home), "HF_ENDPOINT": shop.url, "HF_HUB_DISABLE_XET": "1", **environment}
    command = [sys.executable, "-c", SCRIPT, spec]
    done = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip().splitlines()[-1]


def test_the_hub_s_cache_its_endpoint_and_offline_mode_are_respected(hub, tmp_path):
    first = asked(hub, tmp_path, "hf:owner/name")
    assert first.startswith("name ")
    assert (tmp_path / "hub" / "models--owner--name").is_dir()
    before = len(hub.asked)
    assert asked(hub, tmp_path, "hf:owner/name", HF_HUB_OFFLINE="1") == first
    assert len(hub.asked) == before
    assert "not in the cache" in asked(hub, tmp_path, "hf:owner/other", HF_HUB_OFFLINE="1")


def test_a_damaged_file_of_the_hub_is_found_out_and_fetched_again(hub, tmp_path):
    path = "/owner/name/resolve/main/model.safetensors"
    whole = hub.files[path]
    hub.files[path] = whole[:-4] + b"\0\0\0\1"
    assert "arrived damaged (SHA-256" in asked(hub, tmp_path, "hf:owner/name")
    hub.files[path] = whole
    assert asked(hub, tmp_path, "hf:owner/name").startswith("name ")


def test_a_broken_download_of_the_hub_goes_on(hub, tmp_path):
    hub.refuse["/owner/name/resolve/main/model.safetensors"] = [(429, {"Retry-After": "0"})]
    hub.breaks = 2
    assert asked(hub, tmp_path, "hf:owner/name").startswith("name ")
    assert any(span for _, path, span in hub.asked if path.endswith("model.safetensors") and span)


def test_the_hub_s_refusals_are_one_line(hub, tmp_path):
    hub.breaks = 0
    assert "no such repository" in asked(hub, tmp_path, "hf:owner/none")
    path = "/owner/name/resolve/main/config.json"
    hub.refuse[path] = [(403, {"X-Error-Code": "GatedRepo"})] * 9
    assert "terms" in asked(hub, tmp_path, "hf:owner/name")
