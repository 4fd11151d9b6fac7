"""Folded Grams of many representations and their inner products, in blocks: what HSIC sums are made of.

    grams(chunks)        chunks [r, b, p] of centred features -> folded Gram vectors [r, f], norms [2, r]
    inner(x, y)          <x_i, y_j> of two stacks [l, f], [l', f]: [l, l']; symmetric(x): [l, l] of one stack
    own(x), matching     <x_i, x_i> and <x_i, y_i>: [l]
    products(x, y)       the matrices of these that an analysis wants, by name

A stack is a list of blocks of at most about TOGETHER rows: a single tensor of all would be held twice while it grows.
Axes: r representation, b n example, p feature, f folded entry, l layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import tensorflow as tf

from tf_vitcnn.stats import hsic, measures

TOGETHER = 64  # representations whose Grams are centred in one call, and stacked in one block

Stack = list[Any]  # blocks [<= TOGETHER + r, f]


class Form(NamedTuple):
    """What stands for a Gram in the sums of one measure, and how it is laid out as a vector."""

    matrix: Callable[[Any], Any]  # [r, n, n] -> [r, n, n]
    vector: Callable[[Any], Any]  # [r, n, n] -> [r, f], of the same inner products
    size: float  # of the vector, in folded Grams
    by_host: Callable[..., Any] | None = None  # sums [l, l'] that the host makes of one minibatch's vectors, x and y
    held: float = 0  # by what the host makes of a vector, in folded Grams


FORMS = {
    "u": Form(hsic.u_centre, hsic.fold, 1),
    "biased": Form(hsic.double_centre, hsic.fold, 1),
    "rsa": Form(measures.ranks, hsic.fold, 1),
    "knn": Form(measures.neighbours, measures.flat, 2),
    # float64 and decompositions, neither of which TPUs have: the Grams go to the host
    "procrustes": Form(lambda k: k, measures.flat, 2, measures.overlaps, held=6),
}
GROUPED = ("u", "rsa", "knn")  # measures whose sums are kept by groups of images


def grams(
    chunks: Sequence[Any], n: int, scale: Any, offset: Any, centrings: Sequence[str], product: hsic.Product = "float32"
) -> tuple[dict[str, Any], Any]:
    """Folded Grams {centring: [r, f]} and squared norms [2, r], centred and not, of chunks [r, b, p] of n examples.

    `scale` multiplies the features, `offset` [r] is the squared norm of what was subtracted from them. The last chunk
    may be padded. `product`: see `hsic.gram`.
    """
    rest = n - (len(chunks) - 1) * int(chunks[0].shape[1])
    return vectors(hsic.gram([*chunks[:-1], chunks[-1][:, :rest]], product), scale, offset, centrings)


def vectors(k: Any, scale: Any, offset: Any, centrings: Sequence[str]) -> tuple[dict[str, Any], Any]:
    """The same of the features' Grams [r, n, n]; scales may be given for each [r]."""
    k, n = k * tf.reshape(scale, [-1, 1, 1]) ** 2, k.shape[-1]
    trace = tf.linalg.trace(k)
    # the trace of H K H: what centring leaves of the norm
    centred = trace - tf.reduce_sum(k, axis=[1, 2]) / n
    folded = {name: FORMS[name].vector(FORMS[name].matrix(k)) for name in centrings}
    return folded, tf.stack([centred, trace + n * offset * scale**2])


def joined(sizes: Sequence[int]) -> list[slice]:
    """Neighbouring blocks of these numbers of rows, in groups of about TOGETHER rows: small ones multiply slowly."""
    starts, rows = list[int](), TOGETHER
    for place, size in enumerate(sizes):
        if rows + size > TOGETHER:
            starts.append(place)
            rows = 0
        rows += size
    return [slice(a, b) for a, b in pairwise([*starts, len(sizes)])]


def chosen(blocks: Stack, rows: Sequence[int]) -> Any:
    """Some rows [k, f] of a stack, without a copy of the others."""
    places = [(block, i) for block in blocks for i in range(int(block.shape[0]))]
    return tf.stack([places[row][0][places[row][1]] for row in rows])


def own(blocks: Stack) -> Any:
    """Each row with itself [l]."""
    return tf.concat([tf.reduce_sum(tf.square(b), axis=-1) for b in blocks], axis=0)


def matching(x: Stack, y: Stack) -> Any:
    """Each row with the other stack's row at its place [l]."""
    return tf.concat([tf.reduce_sum(a * b, axis=-1) for a, b in zip(x, y, strict=True)], axis=0)


def inner(x: Stack, y: Stack) -> Any:
    """All rows with all rows of another stack [l, l']."""
    rows = [tf.concat([tf.linalg.matmul(a, b, transpose_b=True) for b in y], axis=1) for a in x]
    return tf.concat(rows, axis=0)


def symmetric(x: Stack) -> Any:
    """All rows with all rows [l, l]: blocks on and above the diagonal, the rest by symmetry."""
    upper = [[tf.linalg.matmul(a, b, transpose_b=True) for b in x[i:]] for i, a in enumerate(x)]
    rows = [
        tf.concat([*(tf.transpose(upper[j][i - j]) for j in range(i)), *row], axis=1) for i, row in enumerate(upper)
    ]
    return tf.concat(rows, axis=0)


def products(x: Stack, y: Stack, wanted: frozenset[str] = frozenset({"xy"})) -> dict[str, Any]:
    """Rows of x with rows of y (`xy`) and with themselves (`xx`, `yy`); without y, x takes its place."""
    if not y:
        xy = symmetric(x)
        return {"xy": xy, "xx": tf.linalg.diag_part(xy)}
    pairs = matching if "matching" in wanted else inner
    found = {"xy": pairs(x, y), "xx": own(x), "yy": own(y)}
    return found | {f"{key}_full": symmetric(s) for key, s in (("xx", x), ("yy", y)) if key in wanted}


def sums(form: str, x: Stack, y: Stack, n: int, wanted: frozenset[str]) -> dict[str, Any]:
    """What one minibatch of n examples adds to a measure's totals, by the names of `products`."""
    scale = 1.0 / hsic.normaliser(n, form == "biased")
    return {key: value * scale for key, value in products(x, y, wanted).items()}
