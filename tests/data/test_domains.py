"""The kind of pictures: by a known name, or as declared beside the images."""

import pytest

from tf_vitcnn.data import domains


@pytest.mark.parametrize(
    "spec, kind",
    [
        ("imagenet2012:train", "photographs"),
        ("cifar100", "photographs"),
        ("resisc45:train", "satellite"),
        ("diabetic_retinopathy_detection/btgraham-300:train", "medical"),
        ("digits:train", "digits"),
        ("mnist:train", "digits"),
        ("my_own_set:train", None),
        ("folder:/nowhere", None),
        (None, None),
    ],
)
def test_known_names(spec, kind):
    assert domains.of_name(spec) == kind
    assert spec is None or domains.of(spec) == kind


def test_folders_and_files_declare_theirs(tmp_path):
    (tmp_path / "fields").mkdir()
    assert domains.of(f"folder:{tmp_path}/fields") is None
    (tmp_path / "fields/domain.txt").write_text("Satellite\n")
    assert domains.of(f"folder:{tmp_path}/fields") == "satellite"
    (tmp_path / "scans.domain.txt").write_text("medical")
    assert domains.of(f"npz:{tmp_path}/scans.npz") == "medical"
    (tmp_path / "fields/domain.txt").write_bytes(b"\xff\xfe\x00")
    assert domains.of(f"folder:{tmp_path}/fields") is None
