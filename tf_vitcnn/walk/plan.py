"""What fits: the micro-batch and the segment budgets that keep a walk under its budget of memory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from tf_vitcnn import surgery
from tf_vitcnn.analyses.base import PerImage, PerMinibatch, Run
from tf_vitcnn.devices.memory import GB
from tf_vitcnn.errors import BadInput, TooLarge
from tf_vitcnn.stats.folded import FORMS, TOGETHER
from tf_vitcnn.subject import Subject
from tf_vitcnn.surgery.segments import nbytes
from tf_vitcnn.walk.gram_sums import likeness

RUNTIME = 0.9 * GB  # TensorFlow itself, the input pipeline and the allocator's slack: on the machine, not on a device
TRANSIENT = 0.4 * GB  # what the operations of one micro-batch may hold inside a segment
JOINED = 1.1  # one tap's chunks are copied once more while its Gram is made

# What XLA keeps of a step beside its arguments and results, as TPUs' compiler said of all steps of five networks
# (benchmarks/accelerators): it fuses taps into the sums that read them, so what counts is what is live at one moment.
FOLD = 5.0  # Gram matrices of one call that are held while they are centred and folded
STACKS = 3.5  # times the stacks of Grams while they are multiplied, what the last segment left included
WALKED = 2.3  # times what is live where most is: temporaries of a segment, whose taps are results
COPIES = 1.65  # times what is live where most is: operands in parts of bfloat16, and other layouts
MAPS = 11.0  # times the widest attention map, where all are summed: scores, exponentials, their parts, their products
LEAST = 0.11 * GB  # of temporaries, however small the network and the micro-batch: even one of eight images takes it
SLACK = 1.1  # small sizes are rounded up to whole tiles
KERNELS = 1.15  # times the weights: some are in parts of bfloat16 ahead of their products


@dataclass(frozen=True)
class WalkPlan:
    """Micro-batch size, bytes per image that a segment may hold on each side, and what the run will take."""

    micro: int
    segment: dict[int, float | None]  # None: cut at blocks
    expected: float


def plan_images(
    run: Run,
    names: Sequence[str],
    budget: float,
    analysis: PerImage | None = None,
    sharing: int = 1,
    kind: str = "CPU",
) -> WalkPlan:
    """Micro-batch of a per-image walk: 32 (or the analysis' own), fewer where their taps would take half the budget.

    `sharing`: how many replicas live in one memory; `kind`: what they compute on.
    """
    image = math.prod(run.subject.model.inputs[0].shape[1:]) * 4
    most = (analysis.micro if analysis else None) or 32
    weights = _weights(run)
    if kind == "TPU":  # one program, and the next images beside these
        live = COPIES * surgery.live(run.subject.model, names)
        if analysis and analysis.widens:
            live = max(live, MAPS * max(nbytes(run.subject.model.output[name]) for name in names))
        fixed = KERNELS * weights + SLACK * (analysis.on_device(run) if analysis else 0)
        micro = at_once(run) or max(1, min(most, int((budget - fixed - LEAST) / SLACK / (2 * image + live))))
        return WalkPlan(micro, {}, fixed + SLACK * (micro * 2 * image + max(micro * live, LEAST)))
    each = image + 3 * sum(nbytes(run.subject.model.output[name]) for name in names)
    fits = max(1, min(most, int((budget - RUNTIME - weights) / 2 / max(each, 1) / sharing)))
    micro = at_once(run) or fits
    held = analysis.held(run) if analysis else 0
    return WalkPlan(micro, {}, RUNTIME + weights + sharing * 2 * micro * each + held)


def plan_grams(
    analyses: Sequence[PerMinibatch], runs: Sequence[Run], budget: float, sharing: int, kind: str = "CPU"
) -> WalkPlan:
    """Micro-batch and segment budgets of a Gram walk; refused when the smallest possible peak is too large.

    `sharing`: how many replicas live in one memory, each with a minibatch of its own; `kind`: what they compute on.
    """
    run = runs[0]
    reads = [_read(analyses, runs, side) for side in range(len(run.subjects))]
    n, micro = run.batch, at_once(run) or _micro(run, [bool(each) for each in reads], budget, kind)
    fixed, ending = _fixed(analyses, runs, sharing, kind, micro), _ending(analyses, runs, kind)
    narrow = kind != "CPU" and {a.product_type() for a in analyses} == {"bfloat16"}
    measure = partial(_widest, machine=kind == "CPU", each=0.5 if narrow else 1.0)
    left = (budget - fixed(n)) / (n * sharing)
    least, held, widest = 0.0, {}, 1.0
    for side, subject in enumerate(run.subjects):
        if not reads[side]:
            continue
        least = max(least, measure(subject, reads[side], 0.0))
        held[side] = _cut(partial(measure, subject, reads[side]), left, JOINED * max(reads[side].values()))
        widest = max(widest, measure(subject, reads[side], held[side]))

    def needs(m: int, segment: float) -> float:
        return max(fixed(m) + sharing * m * segment, ending(m))

    if needs(n, least) > budget:
        fits = _largest(n, lambda m: needs(m, least) <= budget)
        advice = f"the largest minibatch that fits is {fits}: pass --batch {fits}, or more --memory"
        raise TooLarge(
            f"minibatches of {n} images need {needs(n, least) / GB:.1f} GB, and "
            f"{budget / GB:.1f} GB are allowed; {advice if fits else 'no minibatch fits: pass more --memory'}",
            fits,
        )
    return WalkPlan(micro, held, needs(n, widest))


def _micro(run: Run, walked: Sequence[bool], budget: float, kind: str) -> int:
    """Images in a chunk: what one step holds is small beside the minibatch.

    On a device whole tiles, since chunks of other sizes are padded, and copied before they are multiplied.
    """
    subjects = [subject for subject, here in zip(run.subjects, walked, strict=True) if here]
    if kind != "CPU":
        live = max((surgery.live(subject.model, list(subject.taps)) for subject in subjects), default=1)
        most = int(min(run.batch, 64, max(1, budget / 8 / (WALKED * live))))
        return 1 << most.bit_length() - 1
    # of all taps: analyses round alike whether they share their pass or not
    step = max([1.0, *(_widest(subject, Counter(subject.taps), None) for subject in subjects)])
    return int(min(run.batch, max(1, min(64, TRANSIENT / step))))


def _cut(measure: Callable[[float | None], float], left: float, most: float) -> float | None:
    """What a segment may hold: a block or so at a time, and finer cuts only where memory asks for them."""
    if measure(None) <= left:
        return None
    limits = [share * max(left, 0.0) / most for share in (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.0)]
    return next((limit for limit in limits if measure(limit) <= left), limits[0])


def features(analyses: Sequence[PerMinibatch], runs: Sequence[Run]) -> float:
    """Numbers per image that Grams are made of, on both sides."""
    subjects = runs[0].subjects
    read = (
        (s.model.output[tap], many) for i, s in enumerate(subjects) for tap, many in _read(analyses, runs, i).items()
    )
    return sum(many * nbytes(tensor) / 4 for tensor, many in read)


def at_once(run: Run) -> int | None:
    """How many images the subjects take at a time, where the code of one wants a number."""
    wanted = {subject.at_once: subject.name for subject in run.subjects if subject.at_once}
    if len(wanted) > 1:
        words = " and ".join(f"{name} for {count}" for count, name in wanted.items())
        raise BadInput(f"opened for other numbers of images at a time: {words}; look at them one by one")
    return next(iter(wanted), None)


def hsic_bytes(n: int) -> float:
    """Bytes of one folded Gram matrix."""
    half = n // 2 + n % 2
    return 4.0 * (2 * half * half + 2 * half)


def _fixed(
    analyses: Sequence[PerMinibatch], runs: Sequence[Run], sharing: int, kind: str, micro: int
) -> Callable[[int], float]:
    """What minibatches of n images take beside their taps, as a function of n."""
    run, together = runs[0], _together(analyses, runs)
    folded = sum(_folded(a, bound, kind) for a, bound in zip(analyses, runs, strict=True))
    image = sum(math.prod(s.model.inputs[0].shape[1:]) * 4 for s in run.subjects)
    # on a machine the images' chunks are joined, and so are the stack's blocks while segments still hold theirs
    runtime, images, joined = (RUNTIME, 2, 1.15) if kind == "CPU" else (0.0, 1, 1.0)
    sliced = _sliced(analyses, runs) if kind != "CPU" else 0.0
    live = max(surgery.live(s.model, list(s.taps)) for s in run.subjects) if kind != "CPU" else 0

    def taken(n: int) -> float:
        # the stack, and the Grams of one call with their temporaries
        stack, grams = hsic_bytes(n) * folded * joined, FOLD * together * n * n * 4
        # a device does one thing at a time
        once = TRANSIENT + sharing * grams if kind == "CPU" else max(grams, micro * WALKED * live)
        return runtime + once + _weights(run) + sharing * (stack + n * (images * image + sliced))

    return taken


def _ending(analyses: Sequence[PerMinibatch], runs: Sequence[Run], kind: str) -> Callable[[int], float]:
    """What a minibatch of n images takes on a device when its stacks are multiplied, as a function of n."""
    run = runs[0]
    folded = sum(_folded(a, bound, kind) for a, bound in zip(analyses, runs, strict=True)) if kind != "CPU" else 0
    image = sum(math.prod(s.model.inputs[0].shape[1:]) * 4 for s in run.subjects)
    return lambda n: _weights(run) + n * image + STACKS * hsic_bytes(n) * folded


def _together(analyses: Sequence[PerMinibatch], runs: Sequence[Run]) -> int:
    """How many Grams one call makes at most."""
    return min(TOGETHER, max(max(_keys(a, bound)) for a, bound in zip(analyses, runs, strict=True)))


def _sliced(analyses: Sequence[PerMinibatch], runs: Sequence[Run]) -> float:
    """Bytes per image of the widest slice of a view whose Grams take several calls: held beside the view itself."""
    views = [(run, v) for a, run in zip(analyses, runs, strict=True) for side in a.views(run) for v in side]
    many = [(run.subjects[v.side].model, v) for run, v in views if len(v.keys) > TOGETHER]
    read = [(m.inputs[0] if v.tap == "images" else m.output[v.tap], len(v.keys)) for m, v in many]
    return max((nbytes(tensor) * TOGETHER / count for tensor, count in read), default=0.0)


def _folded(analysis: PerMinibatch, run: Run, kind: str) -> float:
    """How many folded Grams the stacks of an analysis hold, and on a machine what is made of them there."""
    views = [view for side in analysis.views(run) for view in side]
    forms = [(len(v.keys), FORMS[form]) for v in views for form in (*analysis.centrings(), *v.also)]
    return sum(count * (form.size + (form.held if kind == "CPU" else 0)) for count, form in forms)


def _read(analyses: Sequence[PerMinibatch], runs: Sequence[Run], side: int) -> Counter[str]:
    """How many different views read each tap of a subject; the images are counted apart."""
    views = (v for a, run in zip(analyses, runs, strict=True) for views in a.views(run) for v in views)
    different = {likeness(v): v.tap for v in views if v.side == side and v.tap != "images"}
    return Counter(different.values())


def _keys(analysis: PerMinibatch, run: Run) -> list[int]:
    """How many representations each view gives."""
    return [len(view.keys) for side in analysis.views(run) for view in side]


def _widest(
    subject: Subject, reads: Counter[str], budget: float | None, machine: bool = True, each: float = 1.0
) -> float:
    """Bytes per image of the widest segment; a tap that several views read is kept once for each.

    On a device what is filed is centred, so never the carry itself, and `each` number takes that share of float32; a
    chunk of the carry makes place for the next one.
    """
    pieces = surgery.segments(subject.model, [tap for tap in subject.taps if tap in reads], budget)
    size = {tap: nbytes(subject.model.output[tap]) for tap in reads}
    if machine:
        return JOINED * max(s.bytes_per_image + sum((reads[tap] - 1) * size[tap] for tap in s.taps) for s in pieces)
    return max(sum(each * reads[tap] * size[tap] for tap in s.taps) + max(s.carries) for s in pieces)


def _largest(n: int, fits: Callable[[int], bool]) -> int:
    """The largest minibatch below n that fits; 0 when none does."""
    low, high = 4, n
    if not fits(low):
        return 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _weights(run: Run) -> float:
    return 4.0 * sum(s.model.count_params() for s in run.subjects)
