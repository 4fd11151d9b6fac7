"""Scaled products of queries and keys: the part of fused attention that Keras has no layer for."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("tf_vitcnn")
class Scores(keras.layers.Layer):
    """scale * q k + bias [b, n, q, k] in float32, of q [b, q, n, e] and k [b, k, n, e]; masked keys are far below."""

    def __init__(self, scale: float, causal: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale, self.causal = scale, causal

    def call(self, inputs: Any, bias: Any = None, allowed: Any = None) -> Any:
        """What the softmax over keys reads, computed as `ops.dot_product_attention` does."""
        scores = ops.cast(ops.einsum("bqne,bkne->bnqk", *inputs), "float32") * self.scale
        if bias is not None:
            scores = scores + ops.cast(bias, "float32")
        if self.causal:
            # positive where the key comes after the query
            ahead = ops.arange(scores.shape[-1])[None, :] - ops.arange(scores.shape[-2])[:, None]
            allowed = ahead <= 0 if allowed is None else ops.logical_and(ops.cast(allowed, "bool"), ahead <= 0)
        # (an argument called `mask` would be given Keras' own)
        # as far as float32 goes, but for what is added on the way: -inf would make rows without any key NaN
        return scores if allowed is None else ops.where(ops.cast(allowed, "bool"), scores, -0.7 * 3.4028235e38)

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs."""
        return {**super().get_config(), "scale": self.scale, "causal": self.causal}
