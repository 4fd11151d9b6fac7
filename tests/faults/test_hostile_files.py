"""Files from strangers: every reader answers with its result or one line, soon, in bounded memory, and runs nothing.

`make faults` tries `FUZZ` inputs per reader (2000 and more in all); the default tests try a few.
"""

import json
import os
import signal
import struct
import warnings
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.faults.mutations import damaged, inside, operations
from tests.faults.readers import READERS, fresh, make_checkpoint, make_npz, pickled_npz, read_npz, rewritten, see
from tf_vitcnn.errors import BadInput

FEW, MANY = 12, int(os.environ.get("FUZZ", "300"))
SLACK = 2**26  # what the interpreter and tf.data's threads take for themselves


def survives(reader, folder):
    """Reads; any exception but BadInput is a failure, and BadInput is one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader.read(folder)
    except BadInput as refused:
        assert str(refused).strip() and len(str(refused)) < 3000
        return False
    return True


def attack(name, count, tmp_path, watch):
    """`count` damaged files; returns how many were still readable."""
    reader = READERS[name]
    honest = [path.read_bytes() for path in reader.make(fresh(tmp_path / "files"))]
    paths = reader.make(fresh(tmp_path / "files"))
    assert survives(reader, tmp_path / "files")
    watch.reset()
    before = watch.peak()
    survives(reader, tmp_path / "files")
    fair = watch.peak() - before
    read = []

    @seed(0)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=False,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(which=st.integers(0, 7), deep=st.booleans(), member=st.integers(0, 40), steps=operations)
    def one(which, deep, member, steps):
        data = honest[which % len(paths)]
        if deep and reader.zipped and which % len(paths) == 0:
            data = inside(data, member, lambda inner: damaged(inner, steps))
        else:
            data = damaged(data, steps)
        paths[which % len(paths)].write_bytes(data)
        signal.alarm(30)
        try:
            read.append(survives(reader, tmp_path / "files"))
        finally:
            signal.alarm(0)
            paths[which % len(paths)].write_bytes(honest[which % len(paths)])

    watch.reset()
    before = watch.peak()
    one()
    grown = watch.peak() - before
    assert grown <= 4 * fair + SLACK, f"{grown / 2**20:.0f} MiB, an honest file takes {fair / 2**20:.0f}"
    print(f"{name}: {len(read)} inputs tried, {sum(read)} still readable, {grown / 2**20:.0f} MiB at most")
    return sum(read)


@pytest.mark.parametrize("name", sorted(READERS))
def test_damaged_files(name, tmp_path, watch):
    attack(name, FEW, tmp_path, watch)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(READERS))
def test_many_damaged_files(name, tmp_path, watch):
    attack(name, MANY, tmp_path, watch)


def test_pickles_are_not_opened(tmp_path):
    mark = tmp_path / "code was run"
    pickled_npz(tmp_path, mark)
    with pytest.raises(BadInput, match="objects"):
        read_npz(tmp_path)
    pickled_npz(tmp_path, mark, member="cls")
    with pytest.raises(BadInput, match="objects"):
        READERS["checkpoint"].read(tmp_path)
    assert not mark.exists()


def declared(shape, dtype="|u1", body=b"", packed=False):
    """An npy member that declares a shape whatever it holds."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header = text.ljust(-(-(len(text) + 11) // 64) * 64 - 11) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


@pytest.mark.parametrize(
    "shape",
    [(10**12, 1, 1, 3), (10**6, 10**6, 10**6, 3), (2**63, 2**63, 2), (-1, 4, 4, 3), (1, -4, -4, 3), (10**400, 1, 1)],
)
@pytest.mark.parametrize("reader", ["npz", "checkpoint"])
def test_a_huge_shape_is_refused_before_allocation(tmp_path, watch, shape, reader):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("images.npy", declared(shape, body=bytes(100)))
    watch.reset()
    before = watch.peak()
    with pytest.raises(BadInput):
        READERS[reader].read(tmp_path)
    assert watch.peak() - before < SLACK


def test_a_deflated_bomb_is_refused(tmp_path, watch):
    count = 2**28
    with (
        zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("images.npy", "w", force_zip64=True) as member,
    ):
        member.write(declared((count // 3072, 32, 32, 3)))
        for _ in range(count // 3072):
            member.write(bytes(3072))
    for reader in ("npz", "checkpoint"):
        watch.reset()
        before = watch.peak()
        with pytest.raises(BadInput):
            READERS[reader].read(tmp_path)
        assert watch.peak() - before < SLACK


@pytest.mark.parametrize(
    "text",
    [
        "{'descr': __import__('os').system('true'), 'fortran_order': False, 'shape': (1,)}",
        "{" * 5000,
        "[" * 9000,
        "",
        "0",
    ],
)
def test_headers_are_not_evaluated(tmp_path, text):
    raw = text.encode()
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(raw)) + raw
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("images.npy", data)
    for name in ("npz", "checkpoint"):
        with pytest.raises(BadInput):
            READERS[name].read(tmp_path)


def test_members_that_point_outside_stay_inside(tmp_path):
    folder = fresh(tmp_path / "inner")
    make_npz(folder)
    with zipfile.ZipFile(folder / "x.npz", "a") as archive:
        archive.writestr("../../outside.npy", declared((1,), body=b"\0"))
        archive.writestr("/tmp/outside-tf-vitcnn.npy", declared((1,), body=b"\0"))
    read_npz(folder)
    assert not list(tmp_path.glob("outside*"))


def test_labels_that_would_size_a_matrix(tmp_path):
    np.savez(tmp_path / "x.npz", images=np.zeros((2, 4, 4, 3), np.uint8), labels=[0, 2**31 - 1])
    with pytest.raises(BadInput, match="labels"):
        read_npz(tmp_path)


def test_special_files_do_not_hang_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    os.mkfifo(tmp_path / "a" / "x.png")
    (tmp_path / "a" / "y.png").symlink_to("/dev/zero")
    (tmp_path / "a" / "z.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(BadInput, match="no JPEG or PNG"):
        see(f"folder:{tmp_path}")


anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=6), inner, max_size=4)),
    max_leaves=8,
)


def sidecars(count):
    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def run(folder, data):
        _, path = READERS["table"].make(fresh(folder))

        def change(sidecar):
            key = data.draw(st.sampled_from([*sidecar, "new"]))
            return {**sidecar, key: data.draw(anything)} if data.draw(st.booleans()) else data.draw(anything)

        rewritten(path, change)
        survives(READERS["table"], folder)

    return run


def test_sidecars_of_any_shape(tmp_path):
    sidecars(FEW)(tmp_path / "t")


@pytest.mark.slow
def test_many_sidecars_of_any_shape(tmp_path):
    sidecars(MANY)(tmp_path / "t")


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"analysis": ' * 50_000, "9" * 10_000, '{"analysis": "../../x"}', "\x00"]
)
def test_deep_and_odd_json(tmp_path, text):
    _, path = READERS["table"].make(tmp_path)
    path.write_text(text)
    with pytest.raises(BadInput):
        READERS["table"].read(tmp_path)


def test_a_table_with_a_wide_row_or_a_huge_cell(tmp_path):
    csv, _ = READERS["table"].make(tmp_path)
    good = csv.read_text()
    for bad in (
        good + "x," * 100_000,
        good + '"' + "y" * 10**6,
        good.replace(",", ";"),
        "\ufeff",
        good[:50] + "\0" * 50,
    ):
        csv.write_text(bad)
        with pytest.raises(BadInput):
            READERS["table"].read(tmp_path)


def test_a_whole_model_from_a_file(tmp_path):
    import tf_vitcnn

    make_checkpoint(tmp_path)
    subject = tf_vitcnn.load(f"vit@{tmp_path}/x.npz")
    assert subject.provenance["depth"] == 1
    assert json.dumps(subject.provenance)
