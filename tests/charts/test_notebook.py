"""Charts, tables and refusals in a notebook."""

import re
import subprocess
import sys
from html import unescape

import altair as alt
import pandas as pd
import pytest

import tf_vitcnn
from tests import browser
from tf_vitcnn.analyses import analysis_of
from tf_vitcnn.errors import BadInput

TABLE = pd.DataFrame(
    {"model": "vit", "depth": [1, 1, 5, 5], "layer": ["a", "a", "b", "b"], "head": [0, 1, 0, 1], "distance_px": 3.0}
).assign(cls_mass=0.1)


def test_a_table_knows_its_analysis():
    assert analysis_of(TABLE) == "attention_distance"
    assert tf_vitcnn.chart(TABLE).to_dict() == tf_vitcnn.chart(TABLE, "attention_distance").to_dict()
    recorded = TABLE.copy()
    recorded.attrs["sidecar"] = {"analysis": "cka"}
    assert analysis_of(recorded) == "cka"


def test_a_table_that_could_be_several_must_be_named():
    with pytest.raises(BadInput, match="name its analysis, one of attention_distance, "):
        tf_vitcnn.chart(pd.DataFrame({"model": ["a"]}))


def test_what_is_shown_is_drawn_offline(tmp_path):
    page = tmp_path / "cell.html"
    page.write_text(f"<html><body>{tf_vitcnn.show(TABLE)._repr_html_()}</body></html>")
    with browser.chromium() as running, browser.opened(running, page) as shown:
        drawn = shown.frame_locator("iframe").locator("svg.marks")
        drawn.wait_for()
        inside = shown.frames[1].evaluate(
            "[document.body.scrollWidth, innerWidth, document.body.scrollHeight, innerHeight]"
        )
        assert inside[0] <= inside[1] and inside[2] <= inside[3]
        assert (shown.errors, shown.asked) == ([], [])


NOTEBOOK = """
import keras
from IPython.core.interactiveshell import InteractiveShell
class Kernel(InteractiveShell):
    kernel = True
shell = Kernel.instance()
import altair as alt
import tf_vitcnn
from tf_vitcnn import charts
assert alt.renderers.active == "tf_vitcnn"
shell.run_cell("import tf_vitcnn; tf_vitcnn.load('vit_b33')")
import tensorflow as tf
tf_vitcnn.load
assert tf.get_logger().level == 40, tf.get_logger().level
"""


def test_a_kernel_gets_the_renderer_and_one_line_for_bad_input():
    pytest.importorskip("IPython")
    done = subprocess.run([sys.executable, "-c", NOTEBOOK], capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.strip().splitlines()
    assert line.startswith("BadInput: unknown model 'vit_b33'")


def test_the_renderer_embeds_all_it_needs():
    from tf_vitcnn import charts  # noqa: F401

    with alt.renderers.enable("tf_vitcnn"):
        html = alt.renderers.get()(tf_vitcnn.chart(TABLE).to_dict())["text/html"]
    page = unescape(re.search(r'srcdoc="([^"]*)"', html)[1])
    assert "vegaEmbed" in page and not re.search(r"<script[^>]* src=", page)


def test_refusals_speak_of_keywords():
    said = BadInput("--batch 3: CKA needs minibatches; give --image-size or --against-name")._render_traceback_()
    assert said == ["BadInput: batch=3: CKA needs minibatches; give image_size or against_name"]
