"""The report: one offline page from tables, whatever lies in the directory."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from etils import epath

import tf_vitcnn
from tests import synthetic, toys
from tf_vitcnn.errors import BadInput
from tf_vitcnn.report.collect import collect, gather
from tf_vitcnn.report.page import page

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    """Tables of all of cka's figures; never changed."""
    root = tmp_path_factory.mktemp("results")
    synthetic.cka_results(root)
    return root


@pytest.fixture
def results(intact, tmp_path):
    return Path(shutil.copytree(intact, tmp_path / "results"))


@pytest.fixture(scope="module")
def built(intact):
    return collect(intact)


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A report with a table for every drawing."""
    root = tmp_path_factory.mktemp("full")
    synthetic.cka_results(root)
    synthetic.all_results(root)
    return collect(root)


def run(*arguments):
    command = [sys.executable, str(ROOT / "scripts/report.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_findings_come_first_and_figures_in_the_papers_order(built):
    text = page(built)
    assert text.index("Findings</h2>") < text.index("Verdicts</h2>") < text.index("Figures</h2>")
    numbers = ("1, B.1", "2, B.1", "8", "12", "G.1, G.2", "H.1", "H.2")
    places = [text.index(f">Fig. {n}</a>", text.index("Figures</h2>")) for n in numbers]
    assert places == sorted(places)


def test_rebuilding_gives_the_same_bytes(intact, built):
    assert page(collect(intact)) == page(built)


def test_missing_figures_are_listed(built):
    found = built
    missing = {number for _, drawing in found.missing for number in drawing.figures}
    assert {"3", "6", "7"} <= missing
    assert not {"1", "2", "12"} & missing


def test_figures_carry_their_verdicts(built):
    found = built
    crossed = next(f for f in found.figures if f.slug == "fig02-cka")
    assert [v.claim.id for v in found.verdicts_of(crossed)] == [
        "low-half-resnet-low-quarter-vit",
        "top-half-resnet-next-third-vit",
        "vit-top-differs",
    ]


def spoil(results, name, sidecar=None, **changes):
    path = results / "cka" / f"{name}.json"
    record = json.loads(path.read_text())
    for keys, value in changes.items():
        *parents, last = keys.split("__")
        part = record
        for key in parents:
            part = part[int(key) if key.isdigit() else key]
        part[last] = value
    path.write_text(json.dumps(record) if sidecar is None else sidecar)


@pytest.mark.parametrize(
    "damage, said",
    [
        (lambda r: (r / "cka/mixer_b32.csv").write_text("a,b\n1,2\n"), "columns do not fit"),
        (lambda r: (r / "cka/mixer_b32.csv").write_bytes(b"\xff\xfe\x00"), "not a table of cka"),
        (lambda r: (r / "cka/mixer_b32.csv").write_text(""), "not a table of cka"),
        (lambda r: (r / "cka/mixer_b32.json").unlink(), "no such file"),
        (lambda r: spoil(r, "mixer_b32", sidecar="{"), "not a sidecar"),
        (lambda r: spoil(r, "mixer_b32", analysis="nonsense"), "unknown analysis"),
        (lambda r: spoil(r, "mixer_b32", analysis="skip_ratio"), "columns do not fit"),
        (lambda r: spoil(r, "mixer_b32", subjects=[]), "names no subject"),
        (lambda r: spoil(r, "mixer_b32", subjects=7), "no 'subjects'"),
        (lambda r: spoil(r, "mixer_b32", data=None), "no 'data'"),
        (lambda r: spoil(r, "mixer_b32", subjects__0__name="bit_r101"), "does not match"),
        (lambda r: spoil(r, "mixer_b32", subjects__0__weights_sha256="other"), "names other weights"),
    ],
)
def test_what_cannot_be_used_is_named_in_one_line_and_the_rest_is_built(results, damage, said):
    damage(results)
    found, (problem,) = gather(epath.Path(results))
    assert "mixer_b32" in problem
    assert said in problem
    assert "\n" not in problem
    assert len(found) >= 7


def test_tables_of_others_are_let_be(results):
    """A CSV file beside a study, which no sidecar calls ours."""
    (results / "prices").mkdir()
    (results / "prices/bread.csv").write_text("a,b\n1,2\n")
    assert gather(epath.Path(results))[1] == []


def test_one_network_at_two_image_sizes_keeps_its_name(results):
    """Its position embeddings are resampled: other weights by their hash."""
    spoil(results, "mixer_b32", subjects__0__weights_sha256="other", subjects__0__image_size=[112, 112])
    _, problems = gather(epath.Path(results))
    assert problems == []


def test_the_page_says_what_was_left_out(results):
    (results / "cka/mixer_b32.csv").write_text(f"{HOSTILE}\n1\n")
    found = collect(results)
    assert len([p for f in found.figures if f.drawing.figures for p in f.panels]) == 8
    assert "Left out: cka/mixer_b32.csv" in page(found)
    assert HOSTILE not in page(found)


def test_everything_from_files_is_escaped(results):
    spoil(results, "vit_b32", notes=[HOSTILE], subjects__0__trained_on=HOSTILE, environment={HOSTILE: HOSTILE})
    text = page(collect(results))
    assert HOSTILE not in text
    assert "&lt;img src=x" in text


def test_a_hostile_layer_name_stays_a_name(results):
    path = results / "cka/vit_b32.csv"
    path.write_text(path.read_text().replace("stem/embed", '"</script><img src=x>"'))
    text = page(collect(results))
    assert "<img src=x>" not in text


def test_directories_without_tables(tmp_path):
    with pytest.raises(BadInput, match="no tables here"):
        collect(tmp_path)
    with pytest.raises(BadInput, match="no such directory"):
        collect(tmp_path / "nothing")


def test_command_writes_page_claims_and_charts(results, tmp_path):
    charts = tmp_path / "charts"
    for file in (results / "cka").glob("*.*"):
        if not file.stem.startswith(("vit_b32_0", "vit_b32--bit")):
            file.unlink()
    done = run(results, "--out", tmp_path / "out/page.html", "--charts", charts, "--format", "json,png,svg,html")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == str(tmp_path / "out/page.html")
    assert (results / "claims.csv").read_text().startswith("claim,place,verdict,value,")
    for kind in ("json", "png", "svg", "html"):
        assert (charts / f"fig02-cka.{kind}").stat().st_size > 10_000
    assert json.loads((charts / "fig12-cka-lines.json").read_text())


def test_command_needs_no_tensorflow(results):
    """Tables, claims and charts import neither TensorFlow nor Keras, nor what only runs need."""
    code = (
        "import sys, runpy\n"
        "class No:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        others = ('filelock', 'keras', 'scipy', 'sklearn', 'threadpoolctl', 'tqdm')\n"
        "        if name.split('.')[0] in others or name.startswith('tensorflow.'):\n"
        "            raise ImportError('imported ' + name)\n"
        "sys.meta_path.insert(0, No())\n"
        f"sys.argv = ['py', {str(results)!r}]\n"
        f"runpy.run_path({str(ROOT / 'scripts/report.py')!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["nowhere"], "no such directory"),
        (["{results}", "--format", "pdf", "--charts", "x"], "unknown format 'pdf'"),
        (["{results}", "--colour", "red"], "--colour"),
    ],
)
def test_bad_input_is_one_line(results, arguments, said):
    done = run(*[a.format(results=results) for a in arguments])
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_single_table_is_its_figure_its_caption_its_findings_and_nothing_else(intact, tmp_path):
    (tmp_path / "cka").mkdir()
    for file in (intact / "cka").glob("vit_b32--bit_r50x1.*"):
        shutil.copy(file, tmp_path / "cka")
    text = page(collect(tmp_path))
    assert text.count('<section class="figure"') == 1  # no groups of images: nothing says how sure they are
    assert "Similarity across two models</h1>" in text
    assert 'id="fails-vit-top-differs"' in text or "vit-top-differs</code>" in text
    for other in ("Untested", "Verdicts</h2>", "Contents", "Networks</h2>", "low-layers-local-and-global"):
        assert other not in text


def test_every_network_with_random_weights_stands_under_its_twin(intact, tmp_path):
    shutil.copytree(intact, tmp_path / "results")
    synthetic.random_results(tmp_path / "results")
    figure = next(f for f in collect(tmp_path / "results").figures if f.slug == "fig01-cka")
    trained, random = figure.rows
    assert [panel.title for panel in trained] == ["vit_b32", "bit_r50x1"]
    assert [panel.title for panel in random] == ["random_vit_b32", "random_bit_r50x1"]
    assert [figure.column_of(panel) for panel in random] == [1, 2]


def test_a_second_run_on_the_same_networks_stands_in_the_appendix(intact, tmp_path):
    root = Path(shutil.copytree(intact, tmp_path / "results"))
    record = json.loads((root / "cka/vit_b32.json").read_text()) | {"tag": "batch64"}
    (root / "cka/vit_b32.batch64.json").write_text(json.dumps(record))
    shutil.copy(root / "cka/vit_b32.csv", root / "cka/vit_b32.batch64.csv")
    text = page(collect(root))
    assert text.index("Appendix: variants") < text.index("Similarity of all layers within a model, batch64</h3>")


def test_claims_asked_again_of_another_measure_stand_in_the_appendix(tmp_path):
    for subject in (toys.vit(size=(32, 32), depth=3), toys.resnet(size=(32, 32), units=(1, 1, 1))):
        table = tf_vitcnn.run("similarity", subject, "digits:train", images=80, batch=20)
        (record,) = table.attrs["sidecar"]["subjects"]
        record["random"] = False  # these claims are about trained networks
        tf_vitcnn.write_table(tmp_path / "similarity" / subject.name, table, table.attrs["sidecar"])
    found = collect(tmp_path)
    again = {v.claim.id for v in found.verdicts if v.checks and v.claim.again}
    assert "uniform-vit-rsa" in again and len(again) >= 4
    findings, appendix = page(found).split('<section id="appendix"')
    assert "claims under other measures</h2>" in appendix
    for claim in again:
        finding = re.compile(rf'<li class="finding" id="[\w-]+-{claim}">')
        assert finding.search(appendix) and not finding.search(findings)
