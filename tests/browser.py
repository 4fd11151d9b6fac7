"""A headless Chromium that reports what a page did: console errors, requests, canvases, time."""

import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

# Runs in the page once all charts are drawn: which canvases hold more than one colour, and when.
PROBE = """<script>
var probing = setInterval(function () {
  if (!document.documentElement.hasAttribute("data-drawn")) { return; }
  clearInterval(probing);
  var empty = [];
  document.querySelectorAll(".chart").forEach(function (chart) {
    var canvas = chart.querySelector("canvas");
    var pixels = canvas && canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    var colours = {}, i;
    for (i = 0; pixels && i < pixels.length; i += 4 * 7) { colours[pixels[i] + "," + pixels[i + 1]] = 1; }
    if (!pixels || Object.keys(colours).length < 3) { empty.push(chart.id); }
  });
  document.body.setAttribute("data-probe", JSON.stringify({
    charts: document.querySelectorAll(".chart").length, empty: empty, failed: window.failed,
    drawn: window.drawn, milliseconds: Math.round(performance.now())
  }));
}, 20);
</script></body>"""


class Visit(NamedTuple):
    """What a browser saw."""

    dom: str
    errors: list[str]
    requests: list[str]
    probe: dict


def visit(page: Path, screenshot: Path | None = None, seconds: int = 60) -> Visit:
    """Opens the page and waits until its charts are drawn."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "page.html"
        head, _, tail = page.read_text(encoding="utf-8").rpartition("</body>")  # Vega's code has one too
        copy.write_text(head + PROBE + tail, encoding="utf-8")
        dom = _chromium(
            scratch, f"--timeout={1000 * seconds}", f"--virtual-time-budget={1000 * seconds}", "--dump-dom", copy
        )
        if screenshot is not None:
            _chromium(
                scratch, f"--screenshot={screenshot}", "--window-size=1200,2400", "--virtual-time-budget=20000", page
            )
        log = json.loads((Path(scratch) / "net.json").read_text())
    found = re.search(r'data-probe="([^"]*)"', dom.stdout)
    probe = json.loads(found[1].replace("&quot;", '"')) if found else {}
    errors = [line for line in dom.stderr.splitlines() if "CONSOLE" in line]
    return Visit(dom.stdout, errors, _requests(log), probe)


def _chromium(scratch: str, *arguments) -> subprocess.CompletedProcess:
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions"]
    flags += ["--enable-logging=stderr", "--no-first-run", "--disable-background-networking", "--disable-sync"]
    flags += [f"--user-data-dir={scratch}/profile", f"--log-net-log={scratch}/net.json"]
    *options, page = arguments
    command = [str(CHROMIUM), *flags, *map(str, options), Path(page).resolve().as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)


def _requests(log: dict) -> list[str]:
    """Addresses that the page asked for; the browser's own housekeeping has no initiator."""
    started = [event.get("params", {}) for event in log["events"] if "initiator" in event.get("params", {})]
    asked = {p["url"] for p in started if p["initiator"] != "not an origin" and "url" in p}
    return sorted(
        url for url in asked if not url.startswith(("data:", "blob:", "chrome:", "https://accounts.google.com"))
    )
