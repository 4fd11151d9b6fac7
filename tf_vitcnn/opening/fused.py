"""The single operation of attention in its parts, as code by hand would compute them."""

from __future__ import annotations

from typing import Any

from keras import ops

from tf_vitcnn.opening.graph import Tensor

FAR = -0.7 * 3.4028235e38  # as low as float32 goes, but for what is added on the way: -inf makes rows without a key NaN


def unfused(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Any = None,
    mask: Any = None,
    scale: Any = None,
    *,
    causal: bool = False,
) -> Tensor:
    """What `ops.dot_product_attention` gives, [b, q, n, e] of [b, q, n, e] and [b, k, n, e]; scores are float32.

    How it is sped up is moot.
    """
    if 1 < key.shape[2] < query.shape[2]:  # grouped queries
        key, value = (ops.repeat(t, query.shape[2] // key.shape[2], axis=2) for t in (key, value))
    scores = ops.einsum("bqne,bkne->bnqk", query, key)
    if scores.dtype != "float32":
        scores = ops.cast(scores, "float32")
    scores = scores * (key.shape[-1] ** -0.5 if scale is None else float(scale))
    if bias is not None:
        scores = scores + (bias if bias.dtype == "float32" else ops.cast(bias, "float32"))
    for allowed in (mask, _past(*scores.shape[-2:]) if causal else None):
        if allowed is not None:
            scores = ops.where(ops.cast(allowed, "bool"), scores, FAR)
    probs = ops.softmax(scores)
    if probs.dtype != value.dtype:
        probs = ops.cast(probs, value.dtype)
    return ops.einsum("bnqk,bkne->bqne", probs, value)


def _past(queries: int, keys: int) -> Any:
    """Where the key comes no later than the query, [q, k]."""
    return ops.arange(keys)[None, :] <= ops.arange(queries)[:, None]
