"""What CKA of all sublayers of ViT-H/14 would take and hold: 224 pixels, ImageNet's 50,000 validation images.

python benchmarks/vit_h14.py

It is not run. Its time is the arithmetic of forward pass and Gram matrices divided by this machine's measured rates for
both; its memory is the walk's own plan, from models of two and three blocks, for all blocks add the same. The same
prediction for one block and a small minibatch stands beside what the walk then takes. Eight machines take whole
minibatches each; what crosses between them, a matrix of layers by layers per minibatch, is left out.
"""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from tf_vitcnn.devices.memory import limit
from tf_vitcnn.devices.replicas import Replicas
from tf_vitcnn.devices.strategy import named_strategy
from tf_vitcnn.tables.schema import Schema
from tf_vitcnn.walk.feed import feed, minibatch_chunks
from tf_vitcnn.walk.grams import GramWalk
from tf_vitcnn.walk.plan import plan_grams

IMAGES, MINIBATCH = 50_000, 1024
LARGE = Schema(
    keys=("machines",),
    values={
        name: (0, float("inf"))
        for name in (
            *("images", "hours", "gigabytes_each", "least_gigabytes_each", "forward_share", "gram_share"),
            *("forward_gflops", "gram_gflops", "predicted_over_measured"),
        )
    },
    integers=("machines",),
)


def forward_flops(tokens: int, width: int, depth: int, mlp: int, patch: int) -> float:
    """Of one image: projections, scores and mixtures, MLP; the embedding. A product and a sum are two."""
    block = 2 * tokens * (4 * width**2 + 2 * width * mlp) + 4 * tokens**2 * width
    return depth * block + 2 * (tokens - 1) * 3 * patch**2 * width


def gram_flops(elements: float, layers: float, minibatch: int) -> float:
    """Of one image: half of X Xᵀ for all elements of its taps, and the products of layers with layers."""
    return minibatch * elements + layers**2 * minibatch / 2


def large() -> pd.DataFrame:
    """One row for one machine like this, one for eight."""
    found = _large()
    rows = []
    for machines in (1, 8):
        minibatches = -(-(IMAGES // MINIBATCH) // machines)  # the busiest machine's
        seconds = {name: minibatches * MINIBATCH * found[f"{name}_seconds"] for name in ("forward", "gram")}
        total = sum(seconds.values())
        rows.append(
            {
                "machines": machines,
                "images": IMAGES // MINIBATCH * MINIBATCH,
                "hours": total / 3600,
                **{f"{name}_share": value / total for name, value in seconds.items()},
                **{name: found[name] for name in LARGE.values if name in found},
            }
        )
    return LARGE.check(pd.DataFrame(rows))


def _large() -> dict[str, float]:
    from tf_vitcnn import taps
    from tf_vitcnn.models.specs import spec_of

    spec = spec_of("vit_h14")
    small = [_huge(spec, depth) for depth in (1, 2, 3)]
    names = [taps.default(one.taps) for one in small]
    sizes = [sum(int(np.prod(s.model.output[t].shape[1:])) for t in n) for s, n in zip(small, names, strict=True)]

    def whole(two: float, three: float) -> float:
        """Of all blocks: each adds the same; the first is left out because it shares its segment with the stem."""
        return two + (spec.depth - 2) * (three - two)

    layers, elements = whole(*map(len, names[1:])), whole(*sizes[1:])
    forward = forward_flops(257, spec.width, spec.depth, spec.mlp, spec.patch)
    gram = gram_flops(elements, layers, MINIBATCH)
    held = [
        whole(*(_expected(s, n, least) for s, n in zip(small[1:], names[1:], strict=True))) for least in (False, True)
    ]
    rates = {"forward": _forward_rate(small[0], spec), "gram": _gram_rate()}
    return {
        "forward_seconds": forward / rates["forward"],
        "gram_seconds": gram / rates["gram"],
        "forward_gflops": rates["forward"] / 1e9,
        "gram_gflops": rates["gram"] / 1e9,
        "gigabytes_each": held[0] / 1e9,
        "least_gigabytes_each": held[1] / 1e9,
        "predicted_over_measured": _checked(small[0], names[0], sizes[0], spec, rates),
    }


def _huge(spec: Any, depth: int) -> Any:
    from dataclasses import replace

    from tf_vitcnn.data.images import Preprocessing
    from tf_vitcnn.models import build
    from tf_vitcnn.subject import Subject

    model = build(replace(spec, depth=depth), image_size=(224, 224), classes=0)
    return Subject(f"h{depth}", model, Preprocessing((224, 224)), {"family": "vit", "patch_size": 14, "random": True})


def _bound(one: Any, names: list[str], minibatch: int) -> tuple[Any, Any]:
    from tf_vitcnn.analyses.base import Run
    from tf_vitcnn.analyses.cka.analysis import CKA

    return CKA(repeats=1), Run((one,), (tuple(names),), images=minibatch, batch=minibatch)


def _expected(one: Any, names: list[str], least: bool) -> float:
    """Bytes that the walk plans for: with a block at a time, or with the smallest budget that it accepts."""
    from tf_vitcnn.errors import BadInput

    analysis, bound = _bound(one, names, MINIBATCH)
    if not least:
        return plan_grams([analysis], [bound], 1e15, 1).expected
    low, high = 0.0, 1e12
    while high - low > 1e6:
        middle = (low + high) / 2
        try:
            plan_grams([analysis], [bound], middle, 1)
            high = middle
        except BadInput:
            low = middle
    return high


def _best(call: Any, repeats: int) -> float:
    call()
    taken = []
    for _ in range(repeats):
        begun = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begun)
    return float(np.median(taken))


def _forward_rate(one: Any, spec: Any) -> float:
    """FLOP/s of a bare forward pass of one block of the large model."""
    import tensorflow as tf

    images = tf.zeros([16, 224, 224, 3])
    model = one.expose([one.taps[-1]])
    call = tf.function(lambda x: tf.reduce_sum(next(iter(model(x, training=False).values()))))
    return 16 * forward_flops(257, spec.width, 1, spec.mlp, spec.patch) / _best(lambda: call(images).numpy(), 3)


def _gram_rate() -> float:
    """FLOP/s of the walk's Gram product of 1024 images, centring and folding with it."""
    import tensorflow as tf

    from tf_vitcnn.stats import hsic

    wide = 257 * 1280 // 8  # an eighth of a tap: products of that width run at full speed
    chunks = [tf.random.stateless_normal([1, 64, wide], [i, 0]) for i in range(MINIBATCH // 64)]
    call = tf.function(lambda parts: hsic.fold(hsic.u_centre(hsic.gram(parts))))
    fold = tf.function(lambda k: hsic.fold(hsic.u_centre(k)))
    square = tf.zeros([1, MINIBATCH, MINIBATCH])
    # folding costs the same for any width: of a whole tap it is an eighth as much
    both, folding = _best(lambda: call(chunks).numpy(), 3), _best(lambda: fold(square).numpy(), 3)
    return MINIBATCH * wide * MINIBATCH / (both - folding * 7 / 8)


def _checked(one: Any, names: list[str], elements: float, spec: Any, rates: dict[str, float]) -> float:
    """The same prediction for one block and a minibatch of 128, divided by what the walk takes."""
    import tensorflow as tf

    from tf_vitcnn.analyses.base import Picked
    from tf_vitcnn.data.sources import batches, open_source
    from tf_vitcnn.walk.gram_sums import GramSums

    n = 128
    analysis, bound = _bound(one, names, n)
    replicas = Replicas(named_strategy("cpu"))
    plan = plan_grams([analysis], [bound], limit(None, named_strategy("cpu")), 1)
    gram = GramWalk([GramSums(analysis, bound, replicas)], replicas, plan.segment.get)
    source, indices = open_source("noise"), np.arange(n)
    gram.prepare([next(iter(batches(source, indices[:16], (one.preprocessing,), 16)))[0][0]])
    fed = feed(
        source, Picked(indices, indices * 0), minibatch_chunks(1, n, plan.micro, 1), [one.preprocessing], replicas
    )
    chunks = [fed_one.batch for fed_one in fed]
    measured = _best(lambda: gram.step(chunks, [tf.constant(0)], [tf.constant(1.0)]), 1)
    forward = forward_flops(257, spec.width, 1, spec.mlp, spec.patch) / rates["forward"]
    return n * (forward + gram_flops(elements, len(names), n) / rates["gram"]) / measured


def lines(found: pd.DataFrame) -> Iterator[str]:
    """The rows as sentences."""
    for made in found.to_dict("records"):
        yield (
            f"vit_h14, {made['images']:.0f} images in minibatches of {MINIBATCH}, {made['machines']:.0f} machine(s): "
            f"{made['hours']:.0f} h, {made['gigabytes_each']:.0f} GB each, "
            f"{made['least_gigabytes_each']:.0f} GB at least; "
            f"forward pass {made['forward_share']:.0%} at {made['forward_gflops']:.0f} GFLOP/s, "
            f"Grams {made['gram_share']:.0%} at {made['gram_gflops']:.0f} GFLOP/s; "
            f"prediction / measurement of one block {made['predicted_over_measured']:.2f}"
        )


if __name__ == "__main__":
    from tf_vitcnn.devices.start import start_tensorflow

    start_tensorflow()
    print("\n".join(lines(large())))
