"""Decoding against Pillow, preprocessing against tf.image.resize and closed forms."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_vitcnn.data.images import IMAGENET_MEAN, IMAGENET_STD, MAX_PIXELS, Preprocessing, decode
from tf_vitcnn.errors import BadInput


def picture(height=45, width=61):
    coarse = np.random.default_rng(0).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "P", "1", "LA", "RGBA", "I;16"])
def test_decoded_as_pillow_does(kind, mode):
    if (kind == "JPEG" and mode not in ("RGB", "L", "CMYK")) or (kind == "PNG" and mode == "CMYK"):
        pytest.skip("no such file")
    if mode == "I;16":
        gray = np.asarray(picture().convert("L"))
        data, expected = encoded(Image.fromarray(gray.astype(np.uint16) * 257), kind), np.stack([gray] * 3, -1)
    else:
        data = encoded(picture().convert(mode), kind)
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(decode(tf.constant(data)), expected)


def test_progressive_and_subsampled_jpeg():
    for options in ({"progressive": True}, {"subsampling": 2}, {"restart_marker_blocks": 2}):
        data = encoded(picture(), "JPEG", **options)
        np.testing.assert_array_equal(decode(tf.constant(data)), Image.open(io.BytesIO(data)).convert("RGB"))


JPEG, PNG = encoded(picture(), "JPEG"), encoded(picture(), "PNG")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GIF89a",
        encoded(picture(), "BMP"),
        encoded(picture(), "GIF"),
        JPEG[:2],
        JPEG[:200],
        JPEG[:-40],
        PNG[:20],
        PNG[: len(PNG) // 2],
        PNG[:16] + b"\0\0\0\0" + PNG[20:],  # no width
        PNG[:16] + b"\xff\xff\xff\xff" + PNG[20:],
        PNG[:16] + b"\0\1\0\0\0\1\0\0" + PNG[24:],  # 65536 x 65536
    ],
)
def test_what_is_no_image_is_refused(data):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(tf.constant(data))


def test_a_bomb_is_refused_before_it_is_decoded():
    side = int(MAX_PIXELS**0.5)
    bomb = encoded(Image.new("1", (side + 8, side + 8)), "PNG")
    assert len(bomb) < 100_000
    with pytest.raises(tf.errors.InvalidArgumentError, match="more pixels"):
        decode(tf.constant(bomb))
    lie = JPEG.replace(b"\x00\x2d\x00\x3d", b"\x1f\x00\x1f\x00", 1)  # 45 x 61 -> 7936 x 7936, below the limit
    assert lie != JPEG
    with pytest.raises(tf.errors.InvalidArgumentError, match="more pixels"):
        decode(tf.constant(lie))


IMAGE = np.asarray(picture())


@pytest.mark.parametrize("size", [(16, 16), (24, 40), (100, 90)])
@pytest.mark.parametrize("resize", ["bilinear", "bicubic"])
@pytest.mark.parametrize("antialias", [False, True])
def test_resized_as_tensorflow_does(size, resize, antialias):
    ours = Preprocessing(size, resize, antialias, values="0..255")(IMAGE)
    assert ours.dtype == tf.float32
    theirs = np.clip(tf.image.resize(IMAGE, size, resize, antialias=antialias), 0, 255)
    np.testing.assert_array_equal(ours, theirs)


def test_value_ranges():
    image = np.tile(np.array([0, 127, 255], np.uint8), (4, 4, 1))
    pixel = {v: Preprocessing((4, 4), values=v)(image).numpy()[0, 0] for v in ("-1..1", "0..1", "0..255")}
    np.testing.assert_allclose(pixel["-1..1"], [-1, -0.5 / 127.5, 1], atol=1e-7)
    np.testing.assert_allclose(pixel["0..1"], [0, 127 / 255, 1], atol=1e-7)
    np.testing.assert_array_equal(pixel["0..255"], [0, 127, 255])
    imagenet = Preprocessing((4, 4), values="imagenet")(image).numpy()[0, 0]
    np.testing.assert_allclose(
        imagenet, (np.array([0, 127, 255]) / 255 - IMAGENET_MEAN) / np.array(IMAGENET_STD), atol=1e-6
    )
    caffe = Preprocessing((4, 4), values="caffe")(image).numpy()[0, 0]
    np.testing.assert_allclose(caffe, [255 - 103.939, 127 - 116.779, -123.68], atol=1e-4)
    other = Preprocessing((4, 4), values="caffe:104,117,123")(image).numpy()[0, 0]
    np.testing.assert_allclose(other, [255 - 104, 127 - 117, -123], atol=1e-4)
    for wrong in ("caffe:", "caffe:1,2", "caffe:1,2,nan", "caffee"):
        with pytest.raises(BadInput, match="value range"):
            Preprocessing((4, 4), values=wrong)


def test_a_batch_is_its_images():
    images = np.stack([IMAGE, IMAGE[::-1]])
    for p in (Preprocessing((10, 12)), Preprocessing((10, 12), "bicubic", True, 0.875, "imagenet")):
        np.testing.assert_allclose(p(images), [p(images[0]), p(images[1])], atol=1e-6)


@pytest.mark.parametrize("shape", [(45, 61), (61, 45), (300, 257), (20, 21)])
def test_crop_keeps_the_aspect_ratio(shape):
    # as torchvision: shorter side to 256, centre 224
    p = Preprocessing((224, 224), "bicubic", True, crop=0.875, values="0..255")
    image = np.asarray(picture(*shape))
    scale = 256 / min(shape)
    new = [round(side * scale) for side in shape]
    whole = np.clip(tf.image.resize(image, new, "bicubic", antialias=True), 0, 255)
    top, left = [(side - 224) // 2 for side in new]
    np.testing.assert_array_equal(p(image), whole[top : top + 224, left : left + 224])


def test_crop_of_a_size_that_is_not_square():
    image = np.zeros((50, 50, 3), np.uint8)
    assert Preprocessing((20, 60), crop=1.0)(image).shape == (20, 60, 3)
    assert Preprocessing((60, 20), crop=0.9)(image[None]).shape == (1, 60, 20, 3)


def test_static_shape_inside_a_function():
    p = Preprocessing((8, 6), crop=0.9)
    traced = tf.function(p).get_concrete_function(tf.TensorSpec([None, None, None, 3], tf.uint8))
    assert traced.output_shapes.as_list() == [None, 8, 6, 3]


def test_as_dict_is_json():
    assert Preprocessing((8, 6)).as_dict() == {
        "size": [8, 6],
        "resize": "bilinear",
        "antialias": False,
        "crop": None,
        "values": "-1..1",
    }


@pytest.mark.parametrize(
    "fields", [{"size": (0, 3)}, {"resize": "lanczos"}, {"values": "0..2"}, {"crop": 0.0}, {"crop": 1.5}]
)
def test_nonsense_is_refused(fields):
    with pytest.raises(BadInput):
        Preprocessing(**{"size": (4, 4), **fields})


def test_float_images_are_refused():
    with pytest.raises(BadInput, match="uint8"):
        Preprocessing((4, 4))(np.zeros((4, 4, 3), np.float32))
    with pytest.raises(BadInput, match="shape"):
        Preprocessing((4, 4))(np.zeros((4, 3), np.uint8))
