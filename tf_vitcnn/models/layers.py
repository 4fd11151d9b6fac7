"""The layers that the three families are made of, with seeded initial weights.

Everything is `keras.layers` or `keras.ops`, so the models also build under another Keras backend. We subclass
`Layer` for a new weight (`Tokens`), for a new use of one (`StdConv2D`), for the same numbers sooner (`GroupNorm`,
`Project`: what we measure is compared with the bare forward pass), and where a tap needs a layer of its own name
that Keras does not have (`Einsum`, `Take`, `Gelu`): bare operations get names that change from build to build.
"""

import math
import zlib
from typing import Any

import keras
from keras import ops

from tf_vitcnn.errors import BadInput
from tf_vitcnn.models.specs import GROUPS
from tf_vitcnn.taps import layer_name

_register = keras.saving.register_keras_serializable("tf_vitcnn")


@_register
class StdConv2D(keras.layers.Conv2D):
    """A convolution whose kernel is standardised over its inputs: mean 0, variance 1 for each output channel.

    `inside` says whether epsilon is added to the variance (BiT) or to the deviation (hybrids).
    """

    def __init__(self, *args: Any, epsilon: float = 1e-10, inside: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.epsilon, self.inside = epsilon, inside

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """The convolution with the standardised kernel."""
        kernel = kernel - ops.mean(kernel, axis=(0, 1, 2), keepdims=True)
        variance = ops.mean(ops.square(kernel), axis=(0, 1, 2), keepdims=True)
        if self.inside:
            kernel = kernel * ops.rsqrt(variance + self.epsilon)
        else:
            kernel = kernel / (ops.sqrt(variance) + self.epsilon)
        return super().convolution_op(inputs, kernel)

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs."""
        return {**super().get_config(), "epsilon": self.epsilon, "inside": self.inside}


@_register
class GroupNorm(keras.layers.GroupNormalization):
    """Group normalisation by way of each channel's moments: the same numbers, three times as fast on a CPU.

    Keras reduces a five-dimensional tensor over three axes, which costs more than the convolution before it.
    """

    def call(self, x: Any) -> Any:
        """Scales and shifts x [b, h, w, c] so that each of its groups has mean 0 and variance 1 before gamma, beta."""
        wide = ops.cast(x, keras.backend.result_type(x.dtype, "float32"))  # half precision overflows
        channels = wide.shape[-1]
        grouped = (-1, self.groups, channels // self.groups)
        mean, variance = (ops.reshape(moment, grouped) for moment in ops.moments(wide, axes=(1, 2)))
        center = ops.mean(mean, axis=-1, keepdims=True)
        # variance within the channels plus variance between them, neither a small difference of large numbers
        variance = ops.mean(variance + ops.square(mean - center), axis=-1, keepdims=True)
        gamma, beta = (ops.reshape(ops.cast(w, wide.dtype), grouped) for w in (self.gamma, self.beta))
        scale = ops.rsqrt(variance + self.epsilon) * gamma
        scale, shift = (ops.reshape(a, (-1, 1, 1, channels)) for a in (scale, beta - center * scale))
        return ops.cast(wide * scale + shift, x.dtype)


@_register
class Project(keras.layers.EinsumDense):
    """`EinsumDense` over the last axes of its input as one matrix product: the same, twice as fast on a CPU."""

    def call(self, x: Any) -> Any:
        """The product over every axis of x that the kernel shares, plus the bias."""
        letters, kernel = self.equation.split("->")[0].split(",")
        inputs = math.prod(self.kernel.shape[: len(set(letters) & set(kernel))])
        y = ops.matmul(ops.reshape(x, (-1, inputs)), ops.reshape(self.kernel, (inputs, -1)))
        return ops.reshape(y + ops.reshape(self.bias, (-1,)), (-1, *self.compute_output_shape(x.shape)[1:]))


@_register
class Tokens(keras.layers.Layer):
    """The sequence [b, t, d] of a grid [b, h, w, d]: class and distillation tokens first, plus positions."""

    def __init__(self, extra: tuple[str, ...] = ("cls",), seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.extra, self.seed = tuple(extra), seed

    def build(self, shape: Any) -> None:
        """Adds a weight for each extra token and one for the positions."""
        _, h, w, d = shape
        make, rows = Make(self.seed), len(self.extra) + h * w
        self.tokens = [self._weight(make, name, (1, 1, d)) for name in self.extra]
        self.pos_embedding = self._weight(make, "pos_embedding", (1, rows, d))

    def _weight(self, make: "Make", name: str, shape: tuple[int, ...]) -> Any:
        return self.add_weight(name=name, shape=shape, initializer=make.normal(f"stem/tokens/{name}", 0.02))

    def call(self, x: Any) -> Any:
        """Flattens the grid row by row, prepends the extra tokens and adds the positions."""
        _, h, w, d = x.shape
        x = ops.reshape(x, (-1, h * w, d))
        # an extra token meets its position before it is copied for every image
        first = [token + self.pos_embedding[:, i : i + 1] for i, token in enumerate(self.tokens)]
        x = x + self.pos_embedding[:, len(first) :]
        if not first:
            return x
        return ops.concatenate([ops.repeat(ops.concatenate(first, axis=1), ops.shape(x)[0], axis=0), x], axis=1)

    def compute_output_shape(self, shape: Any) -> Any:
        """[b, t, d] of [b, h, w, d]."""
        return (shape[0], len(self.extra) + shape[1] * shape[2], shape[3])

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs."""
        return {**super().get_config(), "extra": self.extra, "seed": self.seed}


@_register
class Einsum(keras.layers.Layer):
    """`einsum(equation, scale * x, y)`: a product of two tensors under a name of its own."""

    def __init__(self, equation: str, scale: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # a Python float: a NumPy scalar would promote the product to float64
        self.equation, self.scale = equation, float(scale)

    def call(self, inputs: Any) -> Any:
        """The product of the two inputs."""
        x, y = inputs
        return ops.einsum(self.equation, x if self.scale == 1.0 else x * self.scale, y)

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs."""
        return {**super().get_config(), "equation": self.equation, "scale": self.scale}


@_register
class Take(keras.layers.Layer):
    """One token [b, d] of a sequence [b, t, d]."""

    def __init__(self, index: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.index = int(index)

    def call(self, x: Any) -> Any:
        """The token at `index`."""
        return x[:, self.index]

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs."""
        return {**super().get_config(), "index": self.index}


@_register
class Gelu(keras.layers.Layer):
    """The tanh approximation of GELU that jax.nn.gelu, and so every ViT and Mixer checkpoint, is trained with."""

    def call(self, x: Any) -> Any:
        """The product of x and the probability of a smaller normal number, nearly."""
        return ops.gelu(x, approximate=True)


class Make:
    """Layers named after their taps, their initial weights a function of seed and name alone.

    Kernels are normal with variance 1 / fan_in, biases zero, tokens and positions 0.02 normal as in ViT. Heads are
    not zero as in the official code, so that a random network's logits differ between images.
    """

    def __init__(self, seed: int | None) -> None:
        self.seed = seed

    def normal(self, tap: str, deviation: float) -> keras.initializers.Initializer:
        """The initial values of one weight."""
        if self.seed is None:
            return keras.initializers.Zeros()
        seed = (zlib.crc32(tap.encode()) ^ self.seed) & 0x7FFFFFFF
        return keras.initializers.RandomNormal(stddev=deviation, seed=seed)

    def kernel(self, tap: str, fan_in: int) -> keras.initializers.Initializer:
        """The initial values of a kernel that adds up `fan_in` numbers."""
        return self.normal(tap, fan_in**-0.5)

    def dense(self, tap: str, x: Any, units: int, **kwargs: Any) -> Any:
        """A product with a matrix [d, units] over the last axis."""
        kernel = self.kernel(tap, x.shape[-1])
        return keras.layers.Dense(units, kernel_initializer=kernel, name=layer_name(tap), **kwargs)(x)

    def split(self, tap: str, x: Any, heads: int) -> Any:
        """A query, key or value [b, t, n, e] of every token [b, t, d]."""
        d = x.shape[-1]
        kernel = self.kernel(tap, d)
        layer = Project(
            "btd,dne->btne",
            (x.shape[1], heads, d // heads),
            bias_axes="ne",
            kernel_initializer=kernel,
            name=layer_name(tap),
        )
        return layer(x)

    def merge(self, tap: str, x: Any, width: int) -> Any:
        """The heads' [b, t, n, e] brought back to tokens [b, t, d]."""
        kernel = self.kernel(tap, x.shape[-1] * x.shape[-2])
        layer = Project(
            "btne,ned->btd", (x.shape[1], width), bias_axes="d", kernel_initializer=kernel, name=layer_name(tap)
        )
        return layer(x)

    def mix(self, tap: str, x: Any, equation: str, units: int) -> Any:
        """A product with a matrix over the tokens; `equation` says where channels and tokens stand before and after."""
        kernel = equation[4:6]  # the letters summed over and produced
        others = x.shape[equation.index("d")]
        layer = keras.layers.EinsumDense(
            equation,
            (units, others) if equation.endswith("td") else (others, units),
            bias_axes=kernel[1],
            kernel_initializer=self.kernel(tap, x.shape[equation.index(kernel[0])]),
            name=layer_name(tap),
        )
        return layer(x)

    def embed(self, tap: str, x: Any, width: int, patch: int) -> Any:
        """One vector per patch [b, h, w, d]."""
        kernel = self.kernel(tap, patch * patch * x.shape[-1])
        return keras.layers.Conv2D(width, patch, patch, kernel_initializer=kernel, name=layer_name(tap))(x)

    def std_conv(self, tap: str, x: Any, width: int, size: int, **kwargs: Any) -> Any:
        """A convolution with a standardised kernel, without a bias."""
        kernel = self.kernel(tap, size * size * x.shape[-1])
        layer = StdConv2D(width, size, use_bias=False, kernel_initializer=kernel, name=layer_name(tap), **kwargs)
        return layer(x)


def layer_norm(tap: str, x: Any) -> Any:
    """Each token with mean 0 and variance 1 over its channels, then scaled and shifted."""
    return keras.layers.LayerNormalization(epsilon=1e-6, name=layer_name(tap))(x)


def group_norm(tap: str, x: Any, epsilon: float) -> Any:
    """Each of the groups of channels with mean 0 and variance 1 over the image, then scaled and shifted."""
    return GroupNorm(GROUPS, epsilon=epsilon, name=layer_name(tap))(x)


def activation(tap: str, x: Any, function: str) -> Any:
    """relu, tanh-approximated gelu ("tanh") or gelu itself ("exact")."""
    if function == "exact":
        return keras.layers.Activation("gelu", name=layer_name(tap))(x)
    if function == "tanh":
        return Gelu(name=layer_name(tap))(x)
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
