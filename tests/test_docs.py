"""What the documents show runs, literally as it stands; notebooks run as scripts; the pages build without a warning."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import browser

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SNIPPETS = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run(*command, timeout=600):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=timeout
    )


def test_the_snippets_of_the_documents_run(tmp_path):
    """All in one process, each in a namespace of its own."""
    script = tmp_path / "snippets.py"
    parts = [(path.name, code) for path in DOCUMENTS for code in SNIPPETS.findall(path.read_text(encoding="utf-8"))]
    assert len(parts) > 4
    script.write_text(
        f"for name, code in {parts!r}:\n"
        "    print(name, flush=True)\n"
        "    exec(compile(code, name, 'exec'), {'__name__': 'snippet'})\n"
    )
    done = run(sys.executable, script)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_notebooks_run(path):
    if "keras_hub" in path.stem:
        pytest.importorskip("keras_hub")
    done = run(sys.executable, path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_pages_build(tmp_path):
    pytest.importorskip("mkdocs_jupyter")
    done = run("make", "docs", f"BIN={Path(sys.executable).parent}", "-o", ".venv/ready-docs", "-o", ".venv/ready")
    assert done.returncode == 0, done.stderr
    assert (ROOT / "site/index.html").exists()
    with browser.chromium() as running, browser.opened(running, ROOT / "site/index.html") as shown:
        shown.keyboard.press("/")
        shown.keyboard.type("rollout")
        shown.locator(".md-search-result__item", has_text="attention_maps").first.wait_for()
        assert shown.errors == [] and not [url for url in shown.asked if url.startswith("http")]
