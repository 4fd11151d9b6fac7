"""The page in a real browser: what it draws, shows, hides, links and saves."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests import browser, synthetic
from tf_vitcnn.charts import theme
from tf_vitcnn.report.collect import collect
from tf_vitcnn.report.page import page

SAVED = Path(__file__).parents[2] / "saved_results"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report with a table for every drawing, and networks with random weights."""
    root = tmp_path_factory.mktemp("full")
    synthetic.cka_results(root)
    synthetic.all_results(root)
    synthetic.random_results(root)
    real_results(root)
    return collect(root)


def real_results(root):
    """Committed tables of what has none made up for it, and of what lies over photographs."""
    small = ("localization", "receptive_field", "similarity", "tokens")
    tables = [f"tiny_imagenet/{name}/{model}" for name in small for model in ("vit", "random_vit")]
    for table in ("real/attention_maps/dinov2_small", *tables):
        folder = root / Path(table).parent.name
        folder.mkdir(exist_ok=True)
        for file in SAVED.glob(f"{table}.*"):
            shutil.copy(file, folder)


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
    assert shown.evaluate("window.drawn") == panels >= 60
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


def figure(shown, slug):
    found = shown.locator(f"#{slug}")
    found.scroll_into_view_if_needed()
    shown.wait_for_function(f"document.querySelectorAll('#{slug} .panel:not(.gone) .chart canvas').length > 0")
    shown.wait_for_function("document.documentElement.hasAttribute('data-idle')")
    return found


def hover(shown, chart, across, down):
    """Puts the pointer on a place of the chart's plot, given as shares of it."""
    box = chart.locator("canvas").bounding_box()
    shown.mouse.move(box["x"] + across * box["width"], box["y"] + down * box["height"])
    shown.wait_for_timeout(50)


def test_a_layer_under_the_pointer_is_marked_in_every_panel_that_has_it(shown):
    figure(shown, "fig02-cka")
    within = figure(shown, "fig01-cka")
    hover(shown, within.locator(".chart").first, 0.5, 0.5)
    said = shown.locator("#tip").inner_text()
    assert re.fullmatch(r"block\d\d/\S+ x block\d\d/\S+: 0\.\d{3}", said)  # no groups, so no error over images
    marked = shown.evaluate(
        "[...document.querySelectorAll('.panel')].filter(p => p.querySelector('.spot')).map(p => p.dataset.models)"
    )
    assert {'[["vit_b32"]]', '[["random_vit_b32"]]', '[["vit_b32", "bit_r50x1"]]'} <= set(marked)
    assert '[["bit_r50x1"]]' not in marked
    hover(shown, within.locator(".chart").first, 0.99, 0.01)
    assert shown.locator(".spot").count() == 0


def test_what_has_groups_of_images_tells_its_error(shown):
    hover(shown, figure(shown, "similarity-similarity_of_layers_by_four_measures").locator(".chart").first, 0.3, 0.4)
    assert re.fullmatch(r"\S+ x \S+: 0\.\d+ ± 0\.0\d+", shown.locator("#tip").inner_text())


def test_a_dark_page_tells_networks_apart(chromium, path):
    with browser.opened(chromium, path, scheme="dark") as shown:
        lines = figure(shown, "fig07-skip_ratio-lines")
        drawn = lines.locator(".legend button[data-value=vit_b32] line").get_attribute("stroke")
        assert drawn == theme.DARK[theme.PALETTE[0]]
        listed = shown.locator(".filter label", has_text="vit_b32").first.locator(".swatch").get_attribute("stroke")
        assert listed == drawn


def test_the_filter_hides_a_network_everywhere(shown):
    figure(shown, "fig01-cka")
    assert shown.locator("#fig01-cka .panel:visible").count() == 4
    shown.get_by_label("bit_r50x1", exact=True).uncheck()
    names = shown.locator("#fig01-cka .panel:visible figcaption").all_inner_texts()
    assert "bit_r50x1" not in names and "vit_b32" in names
    assert not shown.locator(
        "#fig02-cka .panel:not(.random) figcaption", has_text="vit_b32 x bit_r50x1"
    ).first.is_visible()
    assert not shown.locator("#claim-vit-top-differs").is_visible()
    lines = figure(shown, "fig11-probe-lines")
    assert lines.locator(".legend button", has_text="bit_r50x1").get_attribute("aria-pressed") == "false"
    shown.get_by_label("bit_r50x1", exact=True).check()
    assert shown.locator("#fig01-cka .panel:visible").count() == 4


def test_the_legend_isolates_and_random_networks_wait_to_be_asked_for(shown):
    lines = figure(shown, "fig07-skip_ratio-lines")
    vit, random = (lines.locator(f".legend button[data-value={name}]") for name in ("vit_b32", "random_vit_b32"))
    pressed = lambda: (vit.get_attribute("aria-pressed"), random.get_attribute("aria-pressed"))  # noqa: E731
    assert pressed() == ("true", "false")
    shown.get_by_label("random weights in line charts too").check()
    assert pressed() == ("true", "true")
    random.click()
    assert pressed() == ("false", "true")
    random.click()
    assert pressed() == ("true", "true")
    assert random.locator("line").get_attribute("stroke-dasharray") == "2 3"
    assert random.locator("line").get_attribute("stroke") == vit.locator("line").get_attribute("stroke")


def test_the_matrix_opens_numbers_by_keyboard_and_links_to_figures(shown):
    cell = shown.locator("#claim-vit-top-differs button.cell").first
    cell.focus()
    shown.keyboard.press("Enter")
    detail = shown.locator("#detail-vit-top-differs")
    assert detail.is_visible() and cell.get_attribute("aria-expanded") == "true"
    assert "cka/vit_b32--bit_r50x1.csv" in detail.locator("li.chosen").inner_text()
    detail.get_by_role("link", name="Fig. 2").first.click()
    assert shown.url.endswith("#fig02-cka")
    shown.locator("#fig02-cka ul.verdicts a").first.click()
    assert "#claim-" in shown.url
    shown.keyboard.press("Escape")


@pytest.mark.parametrize("kind, begins", [("png", b"\x89PNG"), ("svg", b"<svg"), ("json", b'{"'), ("csv", b"model_x,")])
def test_downloads_carry_the_figures_name(shown, kind, begins):
    figure(shown, "fig02-cka")
    with shown.expect_download() as download:
        shown.locator(f"#fig02-cka button[data-save={kind}]").click()
    saved = download.value
    assert saved.suggested_filename == {"json": "fig02-cka.vl.json"}.get(kind, f"fig02-cka.{kind}")
    assert Path(saved.path()).read_bytes().startswith(begins)


def test_saved_numbers_are_the_tables(shown, report):
    with shown.expect_download() as download:
        figure(shown, "fig02-cka").locator("button[data-save=csv]").click()
    saved = pd.read_csv(download.value.path()).query("model_x == 'vit_b32'")
    table = next(r.table for r in report.results if r.path == "cka/vit_b32--bit_r50x1.csv")
    both = table.merge(saved, on=["model_x", "layer_x", "model_y", "layer_y"], suffixes=("", "_saved"))
    assert len(both) == len(table)
    assert (both.cka - both.cka_saved).abs().max() < 6e-4


SIZES = [(1400, "light"), (390, "dark")]
MORE = [(1400, "dark"), (800, "light"), (800, "dark"), (390, "light")]


@pytest.mark.parametrize("width, scheme", [*SIZES, *(pytest.param(*size, marks=pytest.mark.slow) for size in MORE)])
def test_no_sideways_scroll_and_no_barrier(chromium, path, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    with browser.opened(chromium, path, width, scheme=scheme) as shown:
        figure(shown, "fig02-cka")
        shown.locator("#claim-vit-top-differs button.cell").first.click()
        shown.locator("#fig02-cka details.made summary").click()
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        found = axe.Axe().run(shown).response["violations"]
        assert [(v["id"], v["nodes"][0]["html"][:120], v["nodes"][0]["failureSummary"][:300]) for v in found] == []
        assert shown.errors == []


def test_a_report_shows_itself_in_a_notebook(report, chromium, tmp_path):
    cell = tmp_path / "cell.html"
    cell.write_text(f"<html><body>{report._repr_html_()}</body></html>", encoding="utf-8")
    with browser.opened(chromium, cell) as shown:
        frame = shown.frames[1]
        frame.wait_for_function("document.documentElement.hasAttribute('data-idle')")
        assert frame.locator(".thumb canvas").count() > 0
        frame.locator(".contents a", has_text="Similarity of all layers within a model").first.click()
        frame.wait_for_function("document.querySelectorAll('#fig01-cka canvas').length > 0")
        assert (shown.errors, shown.asked) == ([], [])
