"""The layers that the families are made of, with seeded initial weights.

Everything is `keras.layers` or `keras.ops`, so the models also build under another Keras backend. We subclass
`Layer` for a new weight (`Tokens`, `Query`, `LayerScale`, `norms`), for a new use of one (`StdConv2D`), for the
same numbers sooner (`GroupNorm`, `Project`: what we measure is compared with the bare forward pass), and where a tap
needs a layer of its own name that Keras does not have (`Einsum`, `Take`, `Rotary`, `Gelu`): bare operations get names
that change from build to build.
"""

import math
import zlib
from typing import Any

import keras
import numpy as np
from keras import ops

from tf_vitcnn.models.norms import register as _register


def normal(seed: int | None, tap: str, deviation: float) -> keras.initializers.Initializer:
    """The initial values of one weight: a function of seed and name alone; zeros without a seed."""
    if seed is None:
        return keras.initializers.Zeros()
    seed = (zlib.crc32(tap.encode()) ^ seed) & 0x7FFFFFFF
    return keras.initializers.RandomNormal(stddev=deviation, seed=seed)


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
        y = y if self.bias is None else y + ops.reshape(self.bias, (-1,))
        return ops.reshape(y, (-1, *self.compute_output_shape(x.shape)[1:]))


@_register
class Mix(keras.layers.EinsumDense):
    """`EinsumDense` over the tokens, its bias along the axis it was made for.

    Keras takes any addend with one long axis for a bias of the channels where there are as many channels, or of the
    first axis: with as many tokens as channels a bias [t, 1] would go along the channels.
    """

    def call(self, x: Any) -> Any:
        """The product plus the bias."""
        y = ops.einsum(self.equation, x, self.kernel)
        return y + ops.broadcast_to(self.bias, y.shape[1:])


@_register
class Tokens(keras.layers.Layer):
    """The sequence [b, t, d] of a grid [b, h, w, d]: class, distillation, registers, then the grid, plus positions.

    The first `placed` extra tokens and the grid have a position each, all extra tokens by default; with `added` false
    nothing has.
    """

    def __init__(
        self,
        extra: tuple[str, ...] = ("cls",),
        seed: int | None = None,
        placed: int | None = None,
        added: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.extra, self.seed, self.added = tuple(extra), seed, added
        self.placed = (len(self.extra) if placed is None else placed) if added else 0

    def build(self, shape: Any) -> None:
        """Adds a weight for each extra token and one for the positions."""
        _, h, w, d = shape
        self.tokens = [self._weight(name, (1, 1, d)) for name in self.extra]
        if self.added:
            self.pos_embedding = self._weight("pos_embedding", (1, self.placed + h * w, d))

    def _weight(self, name: str, shape: tuple[int, ...]) -> Any:
        return self.add_weight(name=name, shape=shape, initializer=normal(self.seed, f"stem/tokens/{name}", 0.02))

    def call(self, x: Any) -> Any:
        """Flattens the grid row by row, prepends the extra tokens and adds the positions."""
        _, h, w, d = x.shape
        x = ops.reshape(x, (-1, h * w, d))
        first = list(self.tokens)
        if self.added:
            # an extra token meets its position before it is copied for every image
            for i in range(self.placed):
                first[i] = first[i] + self.pos_embedding[:, i : i + 1]
            x = x + self.pos_embedding[:, self.placed :]
        if not first:
            return x
        return ops.concatenate([ops.repeat(ops.concatenate(first, axis=1), ops.shape(x)[0], axis=0), x], axis=1)

    def compute_output_shape(self, shape: Any) -> Any:
        """[b, t, d] of [b, h, w, d]."""
        return (shape[0], len(self.extra) + shape[1] * shape[2], shape[3])

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs."""
        own = {"extra": self.extra, "seed": self.seed, "placed": self.placed, "added": self.added}
        return {**super().get_config(), **own}


@_register
class Rotary(keras.layers.Layer):
    """Queries or keys [b, t, n, e] of the grid's tokens turned by their place, extra tokens left as they are.

    As in DINOv3: centres of patches in -1..1, e / 4 frequencies for rows, then for columns; a channel in the first half
    is paired with the one at its place in the second half.
    """

    def __init__(self, grid: tuple[int, int], theta: float = 100.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.grid, self.theta = tuple(grid), float(theta)

    def call(self, x: Any) -> Any:
        """The turned tokens."""
        rows, cols = self.grid
        extra, half = x.shape[1] - rows * cols, x.shape[-1] // 2
        cos, sin = (ops.cast(part[:, None], x.dtype) for part in self._turns(x.shape[-1]))  # [t, 1, e]
        y = x[:, extra:]
        turned = ops.concatenate([-y[..., half:], y[..., :half]], axis=-1)
        y = y * cos + turned * sin
        return ops.concatenate([x[:, :extra], y], axis=1) if extra else y

    def _turns(self, channels: int) -> tuple[Any, Any]:
        """Cosine and sine of every token's angles [t, e]."""
        rows, cols = ((2 * (np.arange(n) + 0.5) / n - 1) for n in self.grid)
        places = np.stack(np.meshgrid(rows, cols, indexing="ij"), axis=-1).reshape(-1, 2, 1)
        angles = 2 * np.pi * places / self.theta ** (np.arange(channels // 4) * 4 / channels)
        angles = np.tile(angles.reshape(len(places), -1), 2)
        return np.cos(angles).astype("float32"), np.sin(angles).astype("float32")

    def compute_output_shape(self, shape: Any) -> Any:
        """The same."""
        return shape

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs."""
        return {**super().get_config(), "grid": self.grid, "theta": self.theta}


@_register
class Query(keras.layers.Layer):
    """One learnt query [b, 1, d] for every image of x [b, t, d]."""

    def __init__(self, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = seed

    def build(self, shape: Any) -> None:
        """Adds the query."""
        initializer = normal(self.seed, "head/query", 0.02)
        self.query = self.add_weight(name="query", shape=(1, 1, shape[-1]), initializer=initializer)

    def call(self, x: Any) -> Any:
        """The query, once for each image."""
        return ops.repeat(self.query, ops.shape(x)[0], axis=0)

    def compute_output_shape(self, shape: Any) -> Any:
        """[b, 1, d] of [b, t, d]."""
        return (shape[0], 1, shape[-1])

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs."""
        return {**super().get_config(), "seed": self.seed}


@_register
class LayerScale(keras.layers.Layer):
    """Each channel of a branch times a learnt factor (Touvron et al., 2021, "Going deeper with image transformers")."""

    def build(self, shape: Any) -> None:
        """Adds one factor for each channel."""
        self.gamma = self.add_weight(name="gamma", shape=shape[-1:], initializer="ones")

    def call(self, x: Any) -> Any:
        """The scaled branch."""
        return x * self.gamma


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


@_register
class QuickGelu(keras.layers.Layer):
    """The sigmoid approximation of GELU that OpenAI trained CLIP with."""

    def call(self, x: Any) -> Any:
        """The product of x and a sigmoid of 1.702 x."""
        return x * ops.sigmoid(1.702 * x)
