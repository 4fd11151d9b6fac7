"""The command line as a user meets it: one screen of help, one line of refusal, quick answers to misspelt names."""

import subprocess
import sys
from pathlib import Path

import pytest

from tf_vitcnn import analyses
from tf_vitcnn.commands import program

ROOT = Path(__file__).resolve().parents[2]
RUN = "from tf_vitcnn.commands.program import main; main()"
# whatever a refusal imports, it is neither TensorFlow nor Keras
WITHOUT = (
    "import sys\n"
    "class No:\n"
    "    def find_spec(self, name, path=None, target=None):\n"
    "        if name.split('.')[0] in ('keras', 'tensorflow'):\n"
    "            raise ImportError('imported ' + name)\n"
    "sys.meta_path.insert(0, No())\n" + RUN
)


def tf_vitcnn(*words, code=WITHOUT, folder=None):
    command = [sys.executable, "-c", code, *map(str, words)]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "COLUMNS": "80", "HOME": str(folder or "/nowhere")}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, cwd=folder, env=environment
    )


def test_help_fits_a_screen():
    text = program.usage()
    assert len(text.splitlines()) <= 24
    assert max(map(len, text.splitlines())) <= 80
    for name in program.COMMANDS:
        assert text.count(f"\n  {name} ") == 1


@pytest.mark.parametrize("words", [*([name] for name in program.COMMANDS), ["analyze", "cka"]], ids=" ".join)
def test_each_command_helps_with_an_example(words):
    done = tf_vitcnn(*words, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: tf-vitcnn {' '.join(words)} ")
    if words == ["analyze"]:
        assert all(f"\n  {name} " in done.stdout for name in analyses.names())
    else:
        assert f"example:\n  tf-vitcnn {' '.join(words)} " in done.stdout


def test_an_analysis_own_flags_come_first():
    text = tf_vitcnn("analyze", "cka", "--help").stdout
    flags = ["repeats", "model", "strategy", "overwrite"]
    assert sorted(flags, key=lambda flag: text.index(f"\n  --{flag}")) == flags


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("analyse cka", "unknown command 'analyse'; did you mean 'analyze'?"),
        ("analyze ckka", "unknown analysis 'ckka'; did you mean 'cka'?"),
        ("analyze cka --model vit_b3 --data noise", "unknown model 'vit_b3'; did you mean 'vit_b32'?"),
        ("analyze cka --model vit_b32@randm --data noise", "unknown variant of vit_b32 'randm'"),
        ("analyze cka --model x.keras --data noise", "x.keras: no such file"),
        ("analyze cka --model x.h5 --data noise", "x.h5: an HDF5 file of Keras; save it again"),
        ("analyze cka --model x.npz --data noise", "x.npz: which architecture? Expected vit_b32@x.npz"),
        ("analyze cka --model vit_b32@x.npz --data noise", "x.npz: no such file or folder"),
        ("analyze cka --model vit_b32@random --data digit:test", "data 'digit:test': did you mean 'digits:test'?"),
        ("analyze cka --model vit_b32@random --data digits", "data 'digits': expected digits:train or digits:test"),
        ("analyze cka --model vit_b32@random --data digits:all", "unknown split of digits 'all'"),
        ("analyze cka --model vit_b32@random --data x.npz", "data 'x.npz': expected npz:x.npz"),
        ("analyze cka --model vit_b32@random --data .", "data '.': expected folder:."),
        ("analyze cka --model vit_b32@random --data noise --batch x", "--batch: a whole number, not 'x'"),
    ],
)
def test_a_misspelt_name_is_refused_in_one_line_before_tensorflow_is_imported(words, said, tmp_path):
    done = tf_vitcnn(*words.split(), folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_reader_that_has_seen_enough_hears_no_complaint():
    command = f'{sys.executable} -c "{RUN}" catalog | head -1'
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, check=False, timeout=60, env={"PYTHONPATH": str(ROOT)}
    )
    assert done.stderr == ""
    assert done.stdout.startswith("model ")
