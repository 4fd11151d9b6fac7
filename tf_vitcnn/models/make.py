"""Layers under their taps' names, as the builders call them."""

from typing import Any

import keras

from tf_vitcnn.errors import BadInput
from tf_vitcnn.models.layers import Gelu, GroupNorm, Mix, Project, QuickGelu, StdConv2D, normal
from tf_vitcnn.models.norms import RMSNorm
from tf_vitcnn.models.specs import GROUPS
from tf_vitcnn.taps import layer_name


class Make:
    """Layers named after their taps, their initial weights a function of seed and name alone.

    Kernels are normal with variance 1 / fan_in, biases zero, tokens and positions 0.02 normal as in ViT. Heads are
    not zero as in the official code, so that a random network's logits differ between images.
    """

    def __init__(self, seed: int | None) -> None:
        self.seed = seed

    def normal(self, tap: str, deviation: float) -> keras.initializers.Initializer:
        """The initial values of one weight."""
        return normal(self.seed, tap, deviation)

    def kernel(self, tap: str, fan_in: int) -> keras.initializers.Initializer:
        """The initial values of a kernel that adds up `fan_in` numbers."""
        return self.normal(tap, fan_in**-0.5)

    def dense(self, tap: str, x: Any, units: int, **kwargs: Any) -> Any:
        """A product with a matrix [d, units] over the last axis."""
        kernel = self.kernel(tap, x.shape[-1])
        return keras.layers.Dense(units, kernel_initializer=kernel, name=layer_name(tap), **kwargs)(x)

    def split(self, tap: str, x: Any, heads: int, bias: bool = True) -> Any:
        """A query, key or value [b, t, n, e] of every token [b, t, d]."""
        d = x.shape[-1]
        kernel = self.kernel(tap, d)
        layer = Project(
            "btd,dne->btne",
            (x.shape[1], heads, d // heads),
            bias_axes="ne" if bias else None,
            kernel_initializer=kernel,
            name=layer_name(tap),
        )
        return layer(x)

    def merge(self, tap: str, x: Any, width: int, bias: bool = True) -> Any:
        """The heads' [b, t, n, e] brought back to tokens [b, t, d]."""
        kernel = self.kernel(tap, x.shape[-1] * x.shape[-2])
        layer = Project(
            "btne,ned->btd",
            (x.shape[1], width),
            bias_axes="d" if bias else None,
            kernel_initializer=kernel,
            name=layer_name(tap),
        )
        return layer(x)

    def mix(self, tap: str, x: Any, equation: str, units: int) -> Any:
        """A product with a matrix over the tokens; `equation` says where channels and tokens stand before and after."""
        kernel = equation[4:6]  # the letters summed over and produced
        others = x.shape[equation.index("d")]
        layer = Mix(
            equation,
            (units, others) if equation.endswith("td") else (others, units),
            bias_axes=kernel[1],
            kernel_initializer=self.kernel(tap, x.shape[equation.index(kernel[0])]),
            name=layer_name(tap),
        )
        return layer(x)

    def embed(self, tap: str, x: Any, width: int, patch: int, bias: bool = True) -> Any:
        """One vector per patch [b, h, w, d]."""
        kernel = self.kernel(tap, patch * patch * x.shape[-1])
        layer = keras.layers.Conv2D(width, patch, patch, use_bias=bias, kernel_initializer=kernel, name=layer_name(tap))
        return layer(x)

    def std_conv(self, tap: str, x: Any, width: int, size: int, **kwargs: Any) -> Any:
        """A convolution with a standardised kernel, without a bias."""
        kernel = self.kernel(tap, size * size * x.shape[-1])
        layer = StdConv2D(width, size, use_bias=False, kernel_initializer=kernel, name=layer_name(tap), **kwargs)
        return layer(x)

    def conv(
        self, tap: str, x: Any, width: int, size: int, stride: int = 1, bias: bool = False, groups: int = 1
    ) -> Any:
        """A convolution, padded by as much on both sides as keeps an odd kernel centred."""
        kernel = self.kernel(tap, size * size * x.shape[-1] // groups)
        if stride == 1:
            padding = "same"
        else:  # SAME would pad even sizes on one side only
            padding = "valid"
            x = keras.layers.ZeroPadding2D((size - 1) // 2, name=layer_name(f"{tap}/pad"))(x) if size % 2 else x
        layer = keras.layers.Conv2D(
            width,
            size,
            stride,
            padding,
            groups=groups,
            use_bias=bias,
            kernel_initializer=kernel,
            name=layer_name(tap),
        )
        return layer(x)


def batch_norm(tap: str, x: Any) -> Any:
    """Each channel less its mean over its deviation in training, then scaled and shifted."""
    return keras.layers.BatchNormalization(epsilon=1e-5, name=layer_name(tap))(x)


def layer_norm(tap: str, x: Any, epsilon: float = 1e-6, kind: str = "layer", center: bool = True) -> Any:
    """Each token with mean 0 and variance 1 (or over its root mean square), then scaled and shifted."""
    if kind == "rms":
        return RMSNorm(epsilon, name=layer_name(tap))(x)
    return keras.layers.LayerNormalization(epsilon=epsilon, center=center, name=layer_name(tap))(x)


def group_norm(tap: str, x: Any, epsilon: float) -> Any:
    """Each of the groups of channels with mean 0 and variance 1 over the image, then scaled and shifted."""
    return GroupNorm(GROUPS, epsilon=epsilon, name=layer_name(tap))(x)


def activation(tap: str, x: Any, function: str) -> Any:
    """relu, silu, gelu itself ("exact") or approximated by a tanh or by a sigmoid ("quick")."""
    if function == "exact":
        return keras.layers.Activation("gelu", name=layer_name(tap))(x)
    if function == "tanh":
        return Gelu(name=layer_name(tap))(x)
    if function == "quick":
        return QuickGelu(name=layer_name(tap))(x)
    return keras.layers.Activation(function, name=layer_name(tap))(x)


def add(tap: str, skip: Any, branch: Any, keep: bool = True) -> Any:
    """The residual stream after a branch; without its skip the branch alone, under the same name."""
    if keep:
        return keras.layers.Add(name=layer_name(tap))([skip, branch])
    return keras.layers.Identity(name=layer_name(tap))(branch)


def check_patch(size: tuple[int, int], patch: int, name: str) -> None:
    """Refuses images that patches do not tile.

    Differs from the official code, whose VALID convolution drops the margin without a word: then no token sees
    it, and a token's place on the grid is not its place in the image.
    """
    if any(side % patch or side < patch for side in size):
        near = [max(patch, side // patch * patch) for side in size]
        raise BadInput(
            f"{name} cannot take images of {size[0]} x {size[1]}: patches of {patch} pixels must tile them; "
            f"take for instance {near[0]} x {near[1]}"
        )
