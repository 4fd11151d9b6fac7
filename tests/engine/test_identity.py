"""What identifies a run: any change of a parameter, of the data, of the weights, of the draw; and nothing else."""

import dataclasses
import json
import sys
import typing

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests import toys
from tf_vitcnn import analyses
from tf_vitcnn.checkpoints.assign import fingerprint
from tf_vitcnn.data.sources import open_source
from tf_vitcnn.engine import door
from tf_vitcnn.engine.request import Request
from tf_vitcnn.engine.session import Session
from tf_vitcnn.errors import BadInput
from tf_vitcnn.tables.read import differences

FEW = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
LEAST = {"probe": {"test": "digits:test"}}
# what tells two requests apart, each with values that may be asked for
ASKED = {
    "images": st.integers(32, 200),
    "batch": st.integers(4, 32),
    "seed": st.integers(0, 2**40),
    "taps": st.sampled_from([None, ("*/resid/post",), ("block00/*",), ("block00/*", "*/resid/post")]),
    "data": st.sampled_from(["digits:train", "digits:test"]),
}
# what changes how a table is made, never which
HOW = {
    "memory": st.sampled_from([None, 2.0, 64.0]),
    "jit": st.booleans(),
    "skip_bad": st.booleans(),
    "quiet": st.just(True),
}


def record(name, fields=None, subject=None, **asked):
    given_fields = {**LEAST.get(name, {}), **(fields or {})}
    request = Request((door.make(name, given_fields),), **{"data": "digits:train", "quiet": True, **asked})
    against = toys.shared("resnet") if analyses.find(name).against == "must" else None
    with Session(request, subject or toys.shared("vit"), against) as session:
        return json.loads(json.dumps(session.sidecar(0)))


@FEW
@given(st.fixed_dictionaries(ASKED), st.fixed_dictionaries(ASKED), st.data())
def test_requests_differ_exactly_where_they_ask_for_something_else(one, other, data):
    how = [data.draw(st.fixed_dictionaries(HOW)) for _ in range(2)]
    same = data.draw(st.sampled_from(sorted(ASKED)))
    other = {**one, same: other[same]}
    found = differences(*(record("cka", **asked, **h) for asked, h in zip((one, other), how, strict=True)))
    assert bool(found) == (one[same] != other[same]), found


@FEW
@given(st.fixed_dictionaries(HOW), st.fixed_dictionaries(HOW))
def test_how_it_is_made_identifies_no_table(one, other):
    assert not differences(record("skip_ratio", **one), record("skip_ratio", **other))


def other_values(kind, field):
    """Values of a field that may be asked for, by its type."""
    # annotations are text, and those of class variables need not resolve
    meant = eval(field.type, vars(sys.modules[kind.__module__])) if isinstance(field.type, str) else field.type
    options = [meant, *typing.get_args(meant)]
    if typing.get_origin(meant) is tuple:
        return [(1,)] if int in options else []
    if bool in options:
        return [not field.default]
    literals = [value for option in options if typing.get_origin(option) is typing.Literal for value in option.__args__]
    found = [value for value in literals if value != field.default]
    if int in options:
        found += [1, 7, 9]
    if float in options and not isinstance(field.default, tuple):
        found += [0.25]
    return [value for value in found if value != field.default]


@pytest.mark.parametrize("name", analyses.names())
def test_every_parameter_of_an_analysis_identifies_its_tables(name):
    kind = analyses.find(name)
    own = ("attention_distance", "attention_maps", "head_subsets", "skip_ratio")  # look at taps of their own
    asked = {} if name in own else {"taps": ("block0[01]/resid/post",)}
    asked |= {"images": 20, "batch": 20} if name == "attention_maps" else {"images": 40, "batch": 20}
    before, tried = record(name, **asked), 0
    for field in dataclasses.fields(kind):
        for value in other_values(kind, field):
            try:
                after = record(name, {field.name: value}, **asked)
            except BadInput:
                continue  # a value that these subjects do not take
            tried += 1
            assert any(f"parameters.{field.name}" in line for line in differences(before, after)), field.name
    if any(other_values(kind, field) for field in dataclasses.fields(kind)):
        assert tried


@FEW
@given(st.integers(0, 10**6), st.integers(1, 2**20))
def test_any_changed_weight_changes_the_identity(place, nudge):
    subject = toys.shared("vit")
    weights = subject.model.weights
    before = fingerprint(subject.model, "x")
    assert before == fingerprint(subject.model, "y")
    weight = weights[place % len(weights)]
    values = weight.numpy()
    changed = values.copy()
    bits = changed.reshape(-1).view(np.int32)
    bits[place % bits.size] ^= 1 + nudge % 7  # the last bits of one number
    try:
        weight.assign(changed)
        assert fingerprint(subject.model, "x") != before
    finally:
        weight.assign(values)
    assert fingerprint(subject.model, "x") == before


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(6):
        where = tmp_path / "set" / "ab"[i % 2]
        where.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(where / f"{i}.png")
    return tmp_path / "set"


@FEW
@given(st.integers(0, 5), st.integers(0, 10**6), st.integers(1, 255))
def test_any_changed_byte_of_a_file_changes_the_datas_identity(folder, number, place, by):
    spec = f"folder:{folder}"
    before = open_source(spec).fingerprint
    path = sorted(folder.rglob("*.png"))[number]
    old = path.read_bytes()
    new = bytearray(old)
    new[place % len(new)] ^= by
    path.write_bytes(new)
    assert open_source(spec).fingerprint != before
    path.write_bytes(old)
    assert open_source(spec).fingerprint == before


@FEW
@given(st.integers(0, 10**6), st.integers(1, 255), st.booleans())
def test_any_changed_pixel_or_label_of_an_npz_changes_it_and_compression_does_not(tmp_path, place, by, of_label):
    arrays = {"images": np.arange(192, dtype=np.uint8).reshape(4, 4, 4, 3), "labels": np.array([0, 1, 0, 1])}
    save = lambda kind, file: kind(tmp_path / file, **arrays)  # noqa: E731
    save(np.savez, "a.npz")
    save(np.savez_compressed, "b.npz")
    prints = [open_source(f"npz:{tmp_path / file}").fingerprint for file in ("a.npz", "b.npz")]
    assert prints[0] == prints[1]
    if of_label:
        arrays["labels"][place % 4] += 1
    else:
        arrays["images"].reshape(-1)[place % 192] ^= by
    save(np.savez, "c.npz")
    assert open_source(f"npz:{tmp_path / 'c.npz'}").fingerprint != prints[0]
