"""A headless Chromium that reports what a page did: console errors, requests, what was drawn and when."""

import contextlib
import shutil
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
]


@contextlib.contextmanager
def chromium():
    """The installed browser, driven by Playwright; a test that asks for it is skipped where either is missing."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium)")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(browser, path: Path, width=1400, height=900, scheme="light"):
    """The page at that path, with `errors` and `requests` (all but its own file's) as it goes."""
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = context.new_page()
    page.errors, page.asked = [], []
    page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(Path(path).resolve().as_uri())
    page.asked = [url for url in page.asked if not url.startswith(("file:", "data:", "blob:"))]
    yield page
    context.close()


def draw_all(page):
    """Scrolls through the page until every chart is drawn."""
    height, at = 1, 0
    while at < height:
        page.evaluate(f"window.scrollTo(0, {at})")
        page.wait_for_timeout(30)
        page.wait_for_function("document.documentElement.hasAttribute('data-idle')", timeout=60_000)
        height, at = page.evaluate("document.documentElement.scrollHeight"), at + 700


EMPTY = """() => [...document.querySelectorAll('.chart')].filter(chart => {
  const canvas = chart.querySelector('canvas');
  const pixels = canvas && canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  const colours = new Set();
  for (let i = 0; pixels && i < pixels.length; i += 28) { colours.add(pixels[i] + ',' + pixels[i + 1]); }
  return colours.size < 3;
}).map(chart => chart.getAttribute('aria-label'))"""


def empty_charts(page):
    """The charts whose canvas holds fewer than three colours."""
    return page.evaluate(EMPTY)
