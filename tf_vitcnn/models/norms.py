"""Norms that Keras does not have, or not in every version that we run on."""

from typing import Any

import keras
from keras import ops

register = keras.saving.register_keras_serializable("tf_vitcnn")


@register
class RMSNorm(keras.layers.Layer):
    """Each token over the root of its channels' mean square, then scaled: no mean is taken away."""

    def __init__(self, epsilon: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, shape: Any) -> None:
        """Adds the scale."""
        self.gamma = self.add_weight(name="gamma", shape=shape[-1:], initializer="ones")

    def call(self, x: Any) -> Any:
        """The scaled tokens."""
        wide = ops.cast(x, keras.backend.result_type(x.dtype, "float32"))  # half precision overflows
        scale = ops.rsqrt(ops.mean(ops.square(wide), axis=-1, keepdims=True) + self.epsilon)
        return ops.cast(wide * scale, x.dtype) * self.gamma

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs."""
        return {**super().get_config(), "epsilon": self.epsilon}


@register
class ResponseNorm(keras.layers.Layer):
    """Channels of x [b, h, w, c] weighed by how they respond over the image (Woo et al., 2023, "ConvNeXt V2")."""

    def build(self, shape: Any) -> None:
        """Adds a scale and a shift for each channel."""
        self.gamma = self.add_weight(name="gamma", shape=shape[-1:], initializer="zeros")
        self.beta = self.add_weight(name="beta", shape=shape[-1:], initializer="zeros")

    def call(self, x: Any) -> Any:
        """X and its scaled product with each channel's norm over the image, over the mean of these norms."""
        norms = ops.sqrt(ops.sum(ops.square(x), axis=(1, 2), keepdims=True))
        weights = norms / (ops.mean(norms, axis=-1, keepdims=True) + 1e-6)
        return x + self.gamma * (x * weights) + self.beta
