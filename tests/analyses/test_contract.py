"""What every analysis promises, checked for all of them: a new one is covered without a line here."""

import dataclasses
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import tf_vitcnn
from tf_vitcnn import analyses
from tf_vitcnn.analyses.base import PerImage, PerMinibatch, charts_of, drawings_of
from tf_vitcnn.stats.resample import standard_error

# the least that each analysis needs to run on toy data; a new one runs with the defaults of its kind
FIELDS = {
    "cka": {"repeats": 1},
    "probe": {"test": "digits:test", "shots": 4, "readouts": ("cls", "gap")},
    "receptive_field": {"channels": 2},
}
TAPS = {"cka": ["block00/*"], "receptive_field": ["block0[01]/resid/post"], "probe": ["block0[01]/resid/post"]}


def subjects(kind):
    vit = tf_vitcnn.load("vit_ti16@random", image_size=32)
    other = tf_vitcnn.load("bit_r50x1@random", image_size=32) if kind.against == "must" else None
    return vit, other


def run(name, subject, against, **more):
    kind = analyses.find(name)
    fields = {k: v for k, v in FIELDS.get(name, {}).items() if k in {f.name for f in dataclasses.fields(kind)}}
    batch = {"batch": 12} if issubclass(kind, PerMinibatch) else {}
    setting = {"images": 24, "seed": 1, "taps": TAPS.get(name), **batch, **fields, **more}
    return tf_vitcnn.run(name, subject, "digits:train", against, **setting)


def values(table, kind):
    return table[[v for v in kind.schema.values if v in table.columns]].to_numpy(float)


@pytest.mark.slow
@pytest.mark.parametrize("name", analyses.names())
def test_micro_batches_replicas_and_a_resumed_run_give_the_same_table(name, tmp_path):
    kind = analyses.find(name)
    subject, against = subjects(kind)
    one = run(name, subject, against)
    assert list(one.columns)[: len(kind.schema.keys)] == list(kind.schema.keys)
    groups = one.attrs.get("groups", {})  # a table of single images has no error over images
    assert set(groups) >= {value for value in kind.schema.values if f"{value}_se" in one.columns}
    for value, change in groups.items():
        np.testing.assert_allclose(standard_error(change), one[f"{value}_se"], rtol=1e-3, atol=1e-6, err_msg=value)
    variants = {"resumed": {"resume_dir": str(tmp_path)}}
    if issubclass(kind, PerImage):
        variants["micro-batches"] = {"batch": 5}
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    for label, more in variants.items():
        again = run(name, subject, against, **more)
        np.testing.assert_allclose(values(again, kind), values(one, kind), rtol=1e-4, atol=1e-5, err_msg=label)
    with strategy.scope():
        mirrored, other = subjects(kind)
    again = run(name, mirrored, other, strategy=strategy)
    pd.testing.assert_frame_equal(again[list(kind.schema.keys)], one[list(kind.schema.keys)])
    np.testing.assert_allclose(values(again, kind), values(one, kind), rtol=1e-4, atol=1e-5, err_msg="replicas")
    for value, change in groups.items():
        np.testing.assert_allclose(again.attrs["groups"][value], change, rtol=1e-3, atol=1e-5, err_msg=value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", analyses.names())
def test_an_analysis_is_a_frozen_dataclass_with_a_schema_a_chart_and_claims(name):
    kind = analyses.find(name)
    assert dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen
    assert kind.name == name and kind.__doc__
    assert kind.figures or drawings_of(kind)  # what came after the paper has no figure there
    assert callable(charts_of(kind).draw)
    assert kind.claims or not kind.figures  # pictures of single images claim nothing


def test_importing_the_analyses_imports_neither_tensorflow_nor_altair():
    code = (
        "import sys, tf_vitcnn; from tf_vitcnn import analyses; [analyses.find(n) for n in analyses.names()];"
        "assert not {'tensorflow', 'keras', 'altair'} & set(sys.modules), 'what only steps and charts need'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
