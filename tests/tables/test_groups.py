"""Groups beside a table: the same bytes, in the CSV's order, refused when damaged or not the table's own."""

import io
import zipfile

import numpy as np
import pandas as pd
import pytest

from tests import synthetic
from tf_vitcnn.analyses import find, read_table
from tf_vitcnn.errors import BadInput
from tf_vitcnn.tables.files import discard_parts
from tf_vitcnn.tables.groups import GROUPS, Groups, joined, to_bytes, with_groups
from tf_vitcnn.tables.write import table_files, write_table

FEW = synthetic.subject("vit_b32", blocks=1)
SIDECAR = synthetic.sidecar("cka", FEW)


def table(rows=slice(None), seed=0):
    whole = synthetic.cka(FEW, FEW, synthetic.uniform).iloc[rows].reset_index(drop=True)
    changes = np.random.default_rng(seed).normal(size=(GROUPS, len(whole))).astype(np.float32)
    changes[0, 0] = np.nan  # a value that is not there without its group
    return with_groups(whole, {"cka": changes})


def beside(path):
    return path.with_suffix(".groups.npz")


def test_written_read_and_written_again_are_the_same_bytes(tmp_path, monkeypatch):
    first = table()
    write_table(tmp_path / "a", first, SIDECAR)
    again = read_table(tmp_path / "a.csv")
    np.testing.assert_array_equal(again.attrs["groups"]["cka"], first.attrs["groups"]["cka"])
    assert again.attrs["groups"]["cka"].dtype == np.float32
    monkeypatch.setattr("time.time", lambda: 1e9)
    write_table(tmp_path / "b", again, SIDECAR)
    assert beside(tmp_path / "a.csv").read_bytes() == beside(tmp_path / "b.csv").read_bytes()
    assert len(beside(tmp_path / "a.csv").read_bytes()) < 4 * GROUPS * len(first) + 1000


def test_values_have_six_digits_and_their_errors_three(tmp_path):
    first = table().assign(cka=0.123456789, cka_se=0.00123456789)
    write_table(tmp_path / "a", first, SIDECAR)
    again = read_table(tmp_path / "a.csv")
    assert set(again.cka) == {0.123457} and set(again.cka_se) == {0.00123}
    assert set(first.cka_se) == {0.00123456789}  # the caller's own table stays as it is


def test_schema_sorts_groups_with_their_rows():
    whole = table()
    shuffled = np.random.default_rng(1).permutation(len(whole))
    mixed = with_groups(whole.iloc[shuffled].reset_index(drop=True), whole.attrs["groups"].taken(shuffled))
    schema = find("cka").schema
    sorted_, expected = schema.check(mixed), schema.check(whole)
    pd.testing.assert_frame_equal(sorted_, expected)
    np.testing.assert_array_equal(sorted_.attrs["groups"]["cka"], expected.attrs["groups"]["cka"])
    np.testing.assert_array_equal(
        joined([whole, whole]).attrs["groups"]["cka"][:, len(whole) :], whole.attrs["groups"]["cka"]
    )


def test_tables_with_groups_can_be_joined_and_copied():
    both = pd.concat([table(), table(seed=1)])  # pandas compares their attrs
    assert len(both) == 2 * len(table()) and "groups" not in both.attrs
    one = table()
    assert one.copy().attrs["groups"] is one.attrs["groups"]
    with pytest.raises(ValueError, match="read-only"):
        one.attrs["groups"]["cka"][0] = 1


def test_a_new_table_without_groups_leaves_none(tmp_path):
    write_table(tmp_path / "a", table(), SIDECAR)
    write_table(tmp_path / "a", synthetic.cka(FEW, FEW, synthetic.uniform), SIDECAR)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "a.json"]
    assert "groups" not in read_table(tmp_path / "a.csv").attrs


def test_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path / ".a.groups.9999999.part.npz").write_bytes(b"half")
    discard_parts(*table_files(tmp_path / "a"))
    assert not list(tmp_path.iterdir())


def saved(**arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def bomb(rows):
    """Few bytes that unpack to many."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cka.npy", bytes(4 * GROUPS * rows + 10_000_000))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda good, rows: good[: len(good) // 2], "not the groups"),
        (lambda good, rows: good[:300] + bytes([good[300] ^ 255]) + good[301:], "not the groups"),
        (lambda good, rows: b"", "not the groups"),
        (lambda good, rows: saved(cka=np.zeros((GROUPS, rows - 1), np.float32)), "unpacks to|expected"),
        (lambda good, rows: saved(cka=np.zeros((GROUPS // 2, 2 * rows), np.float32)), "expected"),
        (lambda good, rows: saved(cka=np.zeros((GROUPS, rows), np.int32)), "expected float32"),
        (lambda good, rows: saved(cka=np.full((GROUPS, rows), np.inf, np.float32)), "infinity"),
        (lambda good, rows: saved(ckka=np.zeros((GROUPS, rows), np.float32)), "no value of the table"),
        (lambda good, rows: saved(cka=np.zeros(GROUPS * rows, np.float32).astype(object)), "not the groups"),
        (lambda good, rows: bomb(rows), "unpacks to"),
    ],
    ids=["cut", "flipped", "empty", "fewer rows", "fewer groups", "integers", "infinite", "other", "pickled", "bomb"],
)
def test_damaged_groups_are_refused(tmp_path, content, said):
    write_table(tmp_path / "a", table(), SIDECAR)
    path = beside(tmp_path / "a.csv")
    path.write_bytes(content(path.read_bytes(), len(table())))
    with pytest.raises(BadInput, match=said) as refused:
        read_table(tmp_path / "a.csv")
    assert "a.groups.npz" in str(refused.value) and len(str(refused.value).splitlines()) == 1


def test_groups_of_another_table_are_not_written(tmp_path):
    part = table()
    with pytest.raises(BadInput, match="groups do not fit"):
        write_table(tmp_path / "a", part.iloc[:5], SIDECAR)  # pandas keeps the attrs of the whole
    with pytest.raises(BadInput, match="groups do not fit"):
        find("cka").schema.check(part.iloc[:5])
    with pytest.raises(BadInput, match=r"expected \[20, rows\]"):
        Groups({"cka": np.zeros((5, 4))})
    assert not list(tmp_path.iterdir()) and to_bytes(Groups({}))
