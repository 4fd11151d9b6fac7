"""Images on their way to a network: decoded, resized, and in the value range the network was trained with.

Decoding and resizing are TensorFlow operations (C++, parallel in tf.data). Resizing is `tf.image.resize` as in the
official pipelines: bilinear without antialiasing and without a crop, unless the checkpoint says otherwise.
TensorFlow is imported on first use: a `Preprocessing` can be written down without it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from tf_vitcnn.errors import BadInput, unknown

Resize = Literal["bilinear", "bicubic"]
# a name, or the mean and the standard deviation of RGB in 0..1 that are taken out: "0.5,0.5,0.5/0.25,0.25,0.25";
# or BGR in 0..255 less another mean than Caffe's usual one: "caffe:104,117,123"
Values = str
RANGES = ("-1..1", "0..1", "0..255", "imagenet", "caffe")

# 8192 x 8192: larger than any photograph of the usual data sets, 200 MB decoded
MAX_PIXELS = 2**26
# A header that declares more than its bytes can hold lies. Every 8 x 8 block of a JPEG takes at least one bit; deflate
# expands at most 1032 times, and a PNG's pixel takes at least one bit.
JPEG_PIXELS_PER_BYTE = 8 * 64
PNG_PIXELS_PER_BYTE = 8 * 1032

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of RGB in 0..1
CAFFE_MEAN = (103.939, 116.779, 123.68)  # of BGR in 0..255


@dataclass(frozen=True)
class Preprocessing:
    """What a network's input is made of: callable on uint8 images [n, h, w, 3] or [h, w, 3], gives float32.

    With `crop`, the image is first resized, its aspect ratio kept, so that the central `size` is that share of it
    (0.875: 256 then 224); without, it is resized to `size` whatever its shape.
    """

    size: tuple[int, int]  # height, width
    resize: Resize = "bilinear"
    antialias: bool = False
    crop: float | None = None
    values: Values = "-1..1"

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(self.size) < 1:
            raise BadInput(f"image size {self.size}: expected height and width of at least one pixel")
        if self.resize not in get_args(Resize):
            raise unknown("resizing", self.resize, get_args(Resize))
        statistics(self.values)
        if self.crop is not None and not 0 < self.crop <= 1:
            raise BadInput(f"crop {self.crop}: expected a share of the image in (0, 1], or none")

    def __call__(self, images: Any) -> Any:
        """Network input, float32 [..., size, 3], of uint8 images [n, h, w, 3] or [h, w, 3]."""
        import tensorflow as tf

        images = tf.convert_to_tensor(images)
        if images.dtype != tf.uint8:
            raise BadInput(f"images of type {images.dtype.name}: expected uint8 in 0..255")
        if images.shape.rank not in (3, 4):
            raise BadInput(f"images of shape {images.shape}: expected [n, h, w, 3] or [h, w, 3]")
        images = self._cropped(images) if self.crop else self._resized(images, self.size)
        images = tf.ensure_shape(images, [*images.shape[:-3], *self.size, 3])
        return normalize(images, self.values)

    def _resized(self, images: Any, size: Any) -> Any:
        import tensorflow as tf

        images = tf.image.resize(images, size, method=self.resize, antialias=self.antialias)
        # a cubic overshoots; networks were trained on images that had been clipped
        return tf.clip_by_value(images, 0.0, 255.0) if self.resize == "bicubic" else tf.cast(images, tf.float32)

    def _cropped(self, images: Any) -> Any:
        import tensorflow as tf

        # float64: 224 / 0.875 must give 256 exactly; the shorter side decides
        old = tf.cast(tf.shape(images)[-3:-1], tf.float64)
        wanted = tf.constant([side / self.crop for side in self.size if self.crop], tf.float64)
        new = tf.cast(tf.round(old * tf.reduce_max(wanted / old)), tf.int32)
        top, left = tf.unstack((new - tf.constant(self.size)) // 2)
        return tf.image.crop_to_bounding_box(self._resized(images, new), top, left, *self.size)

    def as_dict(self) -> dict[str, Any]:
        """The fields, as a sidecar records them."""
        return {**asdict(self), "size": list(self.size)}


def statistics(values: Values) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and deviation of RGB in 0..1 that a range takes out; None for pixels as they are and for Caffe's."""
    named = {
        "-1..1": ((0.5,) * 3, (0.5,) * 3),
        "0..1": ((0.0,) * 3, (1.0,) * 3),
        "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    }
    if values in RANGES or caffe_mean(values):
        return named.get(values)
    try:
        mean, std = (tuple(float(part) for part in side.split(",")) for side in values.split("/"))
    except ValueError:
        raise unknown("value range", values, [*RANGES, "MEAN,MEAN,MEAN/STD,STD,STD"]) from None
    if len(mean) != 3 or len(std) != 3 or not min(std) > 0 or not all(math.isfinite(x) for x in (*mean, *std)):
        raise unknown("value range", values, [*RANGES, "MEAN,MEAN,MEAN/STD,STD,STD"])
    return mean, std


def caffe_mean(values: Values) -> tuple[float, ...] | None:
    """The mean of BGR in 0..255 that is taken out; None for ranges of RGB."""
    name, colon, mean = values.partition(":")
    if name != "caffe":
        return None
    try:
        found = tuple(float(part) for part in mean.split(",")) if colon else CAFFE_MEAN
    except ValueError:
        found = ()
    if len(found) != 3 or not all(math.isfinite(x) for x in found):
        raise unknown("value range", values, [*RANGES, "caffe:BLUE,GREEN,RED"])
    return found


def values_of(mean: Sequence[float], std: Sequence[float]) -> Values:
    """The shortest name of a range."""
    given = tuple(map(float, mean)), tuple(map(float, std))
    known = {statistics(name): name for name in RANGES if statistics(name)}
    return known.get(given) or "/".join(",".join(f"{x:.8g}" for x in side) for side in given)


def normalize(images: Any, values: Values) -> Any:
    """Float images in 0..255, RGB, in the named range."""
    import tensorflow as tf

    if values == "-1..1":
        return (images - 127.5) / 127.5
    if values == "0..1":
        return images / 255.0
    less = caffe_mean(values)  # no walrus: this is traced, and AutoGraph does not know it
    if less is not None:
        return images[..., ::-1] - tf.constant(less)
    taken = statistics(values)
    if taken is None:
        return images
    mean, std = taken
    return (images / 255.0 - tf.constant(mean)) / tf.constant(std)


def decode(data: Any) -> Any:
    """uint8 RGB [h, w, 3] of an encoded JPEG or PNG (a scalar string): gray, palette and CMYK included.

    The declared size is checked before anything of that size is allocated. Raises InvalidArgumentError.
    """
    import tensorflow as tf

    jpeg = tf.strings.substr(data, 0, 3, unit="BYTE") == b"\xff\xd8\xff"
    return tf.ensure_shape(tf.cond(jpeg, lambda: _decode_jpeg(data), lambda: _decode_png(data)), [None, None, 3])


def _decode_jpeg(data: Any) -> Any:
    import tensorflow as tf

    height, width, _ = tf.unstack(tf.cast(tf.io.extract_jpeg_shape(data), tf.int64))
    with tf.control_dependencies(_sane(height, width, data, JPEG_PIXELS_PER_BYTE)):
        # the exact transform costs no more than TensorFlow's default, and gives what every other decoder gives
        return tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")


def _decode_png(data: Any) -> Any:
    import tensorflow as tf

    head = tf.strings.substr(data, 0, 16, unit="BYTE")
    png = tf.debugging.Assert(head == b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", ["neither JPEG nor PNG"])
    with tf.control_dependencies([png]):
        declared = tf.io.decode_raw(tf.strings.substr(data, 16, 8, unit="BYTE"), tf.int32, little_endian=False)
    width, height = tf.unstack(tf.cast(tf.ensure_shape(declared, [2]), tf.int64))
    with tf.control_dependencies(_sane(height, width, data, PNG_PIXELS_PER_BYTE)):
        return tf.io.decode_png(data, channels=3)


def _sane(height: Any, width: Any, data: Any, pixels_per_byte: int) -> list[Any]:
    import tensorflow as tf

    most = tf.minimum(tf.cast(tf.strings.length(data), tf.int64) * pixels_per_byte, MAX_PIXELS)
    fine = (height > 0) & (width > 0) & (height * width <= most)
    return [tf.debugging.Assert(fine, ["declares more pixels than it can hold", height, width])]
