"""The page in a real browser: what it draws, shows, hides, links and saves."""

import pytest

from tests import browser, synthetic
from tf_vitcnn.report.collect import collect
from tf_vitcnn.report.page import page


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report with a table for every drawing, and networks with random weights."""
    root = tmp_path_factory.mktemp("full")
    synthetic.cka_results(root)
    synthetic.all_results(root)
    synthetic.random_results(root)
    return collect(root)


@pytest.fixture(scope="module")
def path(report, tmp_path_factory):
    target = tmp_path_factory.mktemp("page") / "report.html"
    target.write_text(page(report), encoding="utf-8")
    return target


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as running:
        yield running


@pytest.fixture
def shown(chromium, path):
    with browser.opened(chromium, path) as opened:
        yield opened


def test_every_panel_is_drawn_offline(report, shown):
    assert report.problems == report.missing == []
    browser.draw_all(shown)
    panels = sum(len(figure.panels) for figure in report.figures)
    assert shown.evaluate("window.drawn") == panels >= 25
    assert shown.evaluate("window.failed") == []
    assert browser.empty_charts(shown) == []
    assert (shown.errors, shown.asked) == ([], [])


def test_the_browser_would_notice(chromium, tmp_path):
    """The instrument itself: a page that fetches and fails is seen to."""
    bad = tmp_path / "bad.html"
    bad.write_text('<html><body><img src="http://example.invalid/a.png"><script>nothing()</script></body></html>')
    with browser.opened(chromium, bad) as seen:
        assert seen.asked == ["http://example.invalid/a.png"]
        assert any("nothing is not defined" in line for line in seen.errors)
