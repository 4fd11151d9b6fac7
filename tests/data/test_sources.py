"""Sources against the arrays they were written from; draws and batches; bad files by name."""

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tf_vitcnn.data import sources
from tf_vitcnn.data.images import Preprocessing
from tf_vitcnn.data.sources import Sound, batches, check, draw, name_corrupt, naming_corrupt, open_source
from tf_vitcnn.errors import BadInput

P = Preprocessing((8, 8))


def pictures(count=12, side=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def write_folder(root, images, labels, names="cab"):
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = root / sorted(names)[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{i:03}.png")
    return root


def everything(source, size=P.size, batch=5):
    order = np.arange(source.size)
    data = list(batches(source, order, (Preprocessing(size, values="0..255"),), batch))
    return np.concatenate([x[0] for x, _ in data]), np.concatenate([y for _, y in data])


@pytest.fixture
def folder(tmp_path):
    labels = np.repeat([0, 1, 2], 4)
    return write_folder(tmp_path / "images", pictures(), labels)


def test_folder_and_npz_are_the_same_images(folder, tmp_path):
    labels = np.repeat([0, 1, 2], 4)
    np.savez(tmp_path / "plain.npz", images=pictures(), labels=labels)
    np.savez_compressed(tmp_path / "packed.npz", images=np.asfortranarray(pictures()), labels=labels)
    a = open_source(f"folder:{folder}")
    assert (a.size, a.classes, a.class_names) == (12, 3, ("a", "b", "c"))
    for name in ("plain", "packed"):
        b = open_source(f"npz:{tmp_path}/{name}.npz")
        assert (b.size, b.classes) == (12, 3)
        np.testing.assert_array_equal(a.labels(), b.labels())
        for x, y in zip(everything(a, (16, 16)), everything(b, (16, 16)), strict=True):
            np.testing.assert_array_equal(x, y)
    np.testing.assert_array_equal(everything(a, (16, 16))[0], pictures())


def test_plain_npz_is_mapped(tmp_path):
    np.savez(tmp_path / "x.npz", images=pictures())
    source = open_source(f"npz:{tmp_path}/x.npz")
    assert isinstance(source._images, np.memmap)
    assert source.labels() is None
    assert set(everything(source)[1]) == {-1}


def test_gray_npz(tmp_path):
    gray = pictures()[..., 0]
    np.savez(tmp_path / "x.npz", images=gray)
    images, _ = everything(open_source(f"npz:{tmp_path}/x.npz"), (16, 16))
    np.testing.assert_array_equal(images, np.stack([gray] * 3, -1))


def test_folder_without_classes(tmp_path):
    for i, image in enumerate(pictures(3)):
        Image.fromarray(image).save(tmp_path / f"{i}.PNG", "PNG")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.png").write_text("no image")
    source = open_source(f"folder:{tmp_path}")
    assert (source.size, source.classes, source.labels()) == (3, 0, None)
    assert source.describe(2) == str(tmp_path / "2.PNG")


def test_deeper_folders_links_and_empty_classes(tmp_path, folder):
    (folder / "bb").mkdir()  # keeps its number
    (folder / "c" / "images").mkdir()
    Image.fromarray(pictures()[0]).save(folder / "c" / "images" / "more.jpeg")
    (folder / "c" / "loop").symlink_to(folder / "c")
    source = open_source(f"folder:{folder}")
    assert source.class_names == ("a", "b", "bb", "c")
    np.testing.assert_array_equal(np.bincount(source.labels()), [4, 4, 0, 5])


def test_fingerprint_is_of_the_data(tmp_path, folder):
    same = write_folder(tmp_path / "elsewhere", pictures(), np.repeat([0, 1, 2], 4))
    assert open_source(f"folder:{folder}").fingerprint == open_source(f"folder:{same}").fingerprint
    next((same / "a").iterdir()).rename(same / "b" / "moved.png")
    assert open_source(f"folder:{folder}").fingerprint != open_source(f"folder:{same}").fingerprint
    prints = []
    for i, images in enumerate((pictures(), pictures(), pictures(seed=1))):
        (np.savez_compressed if i else np.savez)(tmp_path / f"{i}.npz", images=images)
        prints.append(open_source(f"npz:{tmp_path}/{i}.npz").fingerprint)
    assert prints[0] == prints[1] != prints[2]


def test_fingerprint_of_a_folder_sees_an_image_changed_in_place(folder, monkeypatch):
    before = open_source(f"folder:{folder}").fingerprint
    file = sorted(folder.rglob("*.png"))[1]
    data = bytearray(file.read_bytes())
    data[-30] ^= 1
    file.write_bytes(data)
    assert open_source(f"folder:{folder}").fingerprint != before
    monkeypatch.setattr("tf_vitcnn.data.folder.SAMPLED", 6)  # every other file
    sampled = open_source(f"folder:{folder}").fingerprint
    data[-30] ^= 1
    file.write_bytes(data)
    assert open_source(f"folder:{folder}").fingerprint == sampled


def test_digits_are_split_by_class():
    train, test = open_source("digits:train"), open_source("digits:test")
    whole = load_digits()
    assert train.size + test.size == len(whole.target)
    share = np.bincount(train.labels()) / np.bincount(whole.target)
    np.testing.assert_allclose(share, 0.8, atol=0.005)
    seen = np.concatenate([everything(s, (8, 8))[0][..., 0] for s in (train, test)]).reshape(-1, 64)
    expected = np.rint(whole.images * 255 / 16).reshape(-1, 64)
    np.testing.assert_array_equal(seen[np.lexsort(seen.T)], expected[np.lexsort(expected.T)])
    assert train.class_names == tuple("0123456789")


def test_noise_is_a_function_of_the_index():
    a, b = open_source("noise:16"), open_source("noise:16")
    for i in (0, 5, 999_999):
        np.testing.assert_array_equal(a.load(i)[0], b.load(i)[0])
    image, label = a.load(3)
    assert image.shape == (16, 16, 3) and int(label) == -1 and a.labels() is None
    assert np.any(image != a.load(4)[0])
    values = np.concatenate([a.load(i)[0].numpy().ravel() for i in range(40)])
    assert abs(values.mean() - 127.5) < 2 and values.min() == 0 and values.max() == 255
    assert open_source("noise").load(0)[0].shape == (224, 224, 3)


def test_draw_is_a_prefix_of_one_permutation():
    source = open_source("digits:test")
    whole = draw(source, None, seed=3)
    np.testing.assert_array_equal(np.sort(whole), np.arange(source.size))
    np.testing.assert_array_equal(draw(source, 50, seed=3), whole[:50])
    assert np.any(draw(source, 50, seed=4) != whole[:50])
    for images in (0, -1, source.size + 1):
        with pytest.raises(BadInput, match="it has 359"):
            draw(source, images, seed=0)


def test_batches_keep_the_order_whatever_their_size():
    source = open_source("digits:test")
    order = draw(source, 50, seed=0)
    for batch in (1, 7, 50, 64):
        data = list(batches(source, order, (P, Preprocessing((4, 6)), P), batch))
        assert [len(y) for _, y in data] == [min(batch, 50 - i) for i in range(0, 50, batch)]
        np.testing.assert_array_equal(np.concatenate([y for _, y in data]), source.labels()[order])
        x, wide, again = data[0][0]
        assert x.shape[1:] == (8, 8, 3) and wide.shape[1:] == (4, 6, 3)
        np.testing.assert_array_equal(x, again)
        np.testing.assert_allclose(x[0], P(source.load(order[0])[0]), atol=1e-6)


def damage(folder, names):
    for name in names:
        (folder / name).write_bytes((folder / name).read_bytes()[:60])
    return [str(folder / name) for name in names]


def test_corrupt_images_are_named_or_skipped(folder):
    bad = damage(folder, ["a/002.png", "c/010.png"])
    source = open_source(f"folder:{folder}")
    order = draw(source, None, seed=0)
    with pytest.raises(BadInput, match=r"(a/002|c/010)\.png: .*--skip-bad"), naming_corrupt(source, order):
        list(batches(source, order, (P,), 4))
    good, found = check(source, order)
    assert sorted(found) == bad
    np.testing.assert_array_equal(good, order[~np.isin(order, [2, 10])])
    assert name_corrupt(source, good) is None
    list(batches(source, good, (P,), 4))


def test_bad_ones_are_replaced_by_the_next_drawn(folder):
    damage(folder, ["a/002.png", "c/010.png"])
    source = open_source(f"folder:{folder}")
    order = draw(source, None, seed=0)
    clean = order[~np.isin(order, [2, 10])]
    for images in (4, 10, 11, None):  # of 10 sound ones
        np.testing.assert_array_equal(Sound(source).draw(images, seed=0), clean[:images])
    other = draw(source, None, seed=0, repeat=1)
    np.testing.assert_array_equal(Sound(source).draw(None, 0, repeat=1), other[~np.isin(other, [2, 10])])


def test_each_image_is_looked_at_once(folder, monkeypatch):
    bad = damage(folder, ["a/002.png", "c/010.png"])
    seen = []
    monkeypatch.setattr(sources, "check", lambda source, indices: seen.extend(indices) or check(source, indices))
    sound = Sound(open_source(f"folder:{folder}"))
    for repeat in range(5):
        sound.draw(10, 0, repeat)
    assert sorted(seen) == sorted(set(seen))
    assert sound.skipped == bad


def overlap(draws, others):
    """The largest share that a draw of one has in common with a draw of the other."""
    return max(len(np.intersect1d(a, b)) / len(a) for a in draws for b in others)


def test_draws_of_all_seeds_and_repeats_are_independent():
    source = open_source("noise:8")
    seeds = [0, 1, 2, 2**32, 2**32 + 1]
    draws = {seed: [draw(source, 1000, seed, repeat) for repeat in range(20)] for seed in seeds}
    for seed in seeds:
        assert not any(overlap(draws[seed], draws[other]) > 0.02 for other in seeds if other != seed)
        assert overlap(draws[seed][:10], draws[seed][10:]) < 0.02
    np.testing.assert_array_equal(draws[1][0], draw(source, None, 1)[:1000])


def test_an_error_that_is_not_an_image_stays_itself(folder):
    source = open_source(f"folder:{folder}")
    with pytest.raises(ZeroDivisionError), naming_corrupt(source, np.arange(3)):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    "spec",
    ["", "digits", "digits:val", "noise:x", "noise:0", "folder:", "folder:/no/such/folder", "npz:/no/such.npz"],
)
def test_bad_specs(spec):
    with pytest.raises(BadInput):
        open_source(spec)


def test_empty_folders(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(BadInput, match="no JPEG or PNG"):
        open_source(f"folder:{tmp_path}")


def test_images_beside_class_folders(folder):
    Image.fromarray(pictures()[0]).save(folder / "stray.png")
    with pytest.raises(BadInput, match=r"stray\.png"):
        open_source(f"folder:{folder}")


@pytest.mark.parametrize(
    "arrays",
    [
        {"pictures": pictures()},
        {"images": pictures().astype(np.float32)},
        {"images": pictures()[..., :2]},
        {"images": pictures()[0, 0]},
        {"images": pictures()[:0]},
        {"images": np.array([{}, {}, {}], dtype=object)},
        {"images": pictures(), "labels": np.arange(5)},
        {"images": pictures(), "labels": np.arange(12) - 1},
        {"images": pictures(), "labels": np.arange(12) * 10**12},
        {"images": pictures(), "labels": np.arange(12.0)},
    ],
)
def test_bad_npz(tmp_path, arrays):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(BadInput, match=r"x\.npz"):
        open_source(f"npz:{tmp_path}/x.npz")
