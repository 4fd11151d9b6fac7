"""What runs on a device, driven through the project's own walks on a `Device` that lowers instead of computing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.tensorflow.optimizer import TFOptimizer
from keras.src.optimizers.base_optimizer import BaseOptimizer

from benchmarks.accelerators.lower import Buffer, Device
from tf_vitcnn import analyses
from tf_vitcnn.analyses.base import Analysis, Batch, PerImage, PerMinibatch, Run
from tf_vitcnn.checkpoints.load import load
from tf_vitcnn.data.base import Source
from tf_vitcnn.data.images import Preprocessing
from tf_vitcnn.errors import BadInput, TooLarge
from tf_vitcnn.stats import folded, minibatch_cka
from tf_vitcnn.subject import Subject
from tf_vitcnn.walk import grams as walk
from tf_vitcnn.walk.gram_sums import GramSums
from tf_vitcnn.walk.images import PerImageWalk
from tf_vitcnn.walk.plan import plan_grams, plan_images

CLASSES, SHOTS = 1000, 10  # ImageNet's probes
MINIBATCH = 1024
TILES = 64  # images in a chunk of a minibatch
TRAINING = 128, 32  # images in a training step, and where weights, gradients and moments take a quarter of the device
FORWARD = 64  # images in a bare forward pass
# asked for by name only: all backward passes of an image are one program, which grows with the square of the depth
LONG = ("receptive_field",)
# where Keras' optimizer reaches past its variables for TensorFlow's, which a lowered step does not have
STATEFUL = ("assign", "assign_add", "assign_sub", "_backend_update_step", "_apply_weight_decay", "_var_key")


class Labelled(Source):
    """As many labelled images as an ImageNet probe takes; nobody looks at them."""

    spec, size, fingerprint = "labelled", CLASSES * SHOTS, "labelled"
    class_names = tuple(map(str, range(CLASSES)))

    def load(self, index: Any) -> tuple[Any, Any]:
        """A grey image."""
        return tf.zeros([224, 224, 3], tf.uint8), tf.constant(0)

    def labels(self) -> np.ndarray:
        """Ten of each class."""
        return np.arange(self.size, dtype=np.int32) % CLASSES


class Block(keras.layers.Layer):
    """Attention and a perceptron, as a user writes them."""

    def __init__(self, width: int, heads: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.norms = [keras.layers.LayerNormalization() for _ in range(2)]
        self.attention = keras.layers.MultiHeadAttention(heads, width // heads)
        self.dense = [keras.layers.Dense(4 * width, activation="gelu"), keras.layers.Dense(width)]

    def call(self, x: Any) -> Any:
        """One block."""
        y = self.norms[0](x)
        x = x + self.attention(y, y)
        return x + self.dense[1](self.dense[0](self.norms[1](x)))


class Foreign(keras.Model):
    """A small vision transformer that is a user's own class: nobody declared its taps."""

    def __init__(self, width: int = 384, heads: int = 6, depth: int = 6) -> None:
        super().__init__(name="foreign")
        self.embed = keras.layers.Conv2D(width, 16, 16)
        self.blocks = [Block(width, heads, name=f"block{i}") for i in range(depth)]
        self.norm = keras.layers.LayerNormalization()
        self.pool = keras.layers.GlobalAveragePooling1D()
        self.head = keras.layers.Dense(CLASSES)

    def call(self, images: Any) -> Any:
        """Logits."""
        x = self.embed(images)
        x = keras.ops.reshape(x, (-1, x.shape[1] * x.shape[2], x.shape[3]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.pool(self.norm(x)))


def subject_of(name: str) -> Subject:
    """A network on random weights: of the catalog, of keras.applications (`keras:NAME`), or a user's, opened."""
    if name != "foreign":
        return load(name if "@" in name else f"{name}@random")
    model = Foreign()
    model(np.zeros([1, 224, 224, 3], np.float32))
    return load(model, name=name, preprocessing=Preprocessing((224, 224)))


def everything(device: Device, subject: Subject, budget: float, only: Sequence[str] | None = None) -> None:
    """Every step of every analysis of one subject, then the steps beside the walks."""
    device.variables, device.reads = list(subject.model.variables), False
    for name in analyses.names():
        if name in LONG if not only else name not in only:
            continue
        kind = analyses.find(name)
        for precision in ("float32", "bfloat16") if name == "cka" else ("float32",):
            fields = {"test": "labelled"} if name == "probe" else {}
            fields |= {"repeats": 1, "precision": precision} if name == "cka" else {}
            device.about = {"model": subject.name, "step": name, "precision": precision}
            try:
                analysis(device, kind(**fields), subject, budget)
            except BadInput as refused:  # a question that this network has no answer to
                print(f"{subject.name}: {name}: {refused}", flush=True)
            except Exception as error:  # whatever tracing and lowering raise is the finding
                device.failed(error)
            device.write()
    for step in (minibatch_metric, forward):
        if not only or step.__name__ in only:
            try:
                step(device, subject)
            except Exception as error:
                device.failed(error)
            device.write()


def analysis(device: Device, asked: Analysis, subject: Subject, budget: float) -> None:
    """The steps of one analysis; one that compares looks at the subject twice."""
    subjects = (subject, subject) if asked.against == "must" else (subject,)
    chosen = tuple(asked.default_taps(one) for one in subjects)
    source = Labelled()
    batch = (asked.batch or MINIBATCH) if isinstance(asked, PerMinibatch) else 0
    run = Run(
        subjects=subjects,
        taps=tuple(map(tuple, chosen)),
        images=asked.images or source.size,
        batch=batch,
        note=lambda line: None,
        sources={"data": source, "test": source},
        memory=int(budget),
    )
    if isinstance(asked, PerMinibatch):
        minibatch(device, asked, run, budget)
    elif isinstance(asked, PerImage):
        with device.reading():
            images(device, asked, run, budget)


def minibatch(device: Device, asked: PerMinibatch, run: Run, budget: float) -> None:
    """Segments, folds and products of one minibatch; the largest of whole tiles where the asked one does not fit."""
    try:
        plan = plan_grams([asked], [run], budget, 1, device.kind)
    except TooLarge as refused:
        if refused.fits < TILES:
            raise
        return minibatch(device, asked, replace(run, batch=refused.fits // TILES * TILES), budget)
    device.plan(plan.expected, run.batch)
    sums = GramSums(asked, run, device)
    gram = walk.GramWalk([sums], device, plan.segment.get)
    inputs = [
        (224, 224, 3) if s.model.inputs[0].shape[1] is None else s.model.inputs[0].shape[1:] for s in run.subjects
    ]
    gram.prepare([tf.zeros([1, *shape]) for shape in inputs])
    chunks = []
    for _ in range(-(-run.batch // plan.micro)):
        pixels = tuple(Buffer(device, (plan.micro, *shape), tf.float32) for shape in inputs)
        ones, roles = Buffer(device, (plan.micro,), tf.float32), Buffer(device, (plan.micro,), tf.int32)
        chunks.append(Batch(pixels, None, ones, None, roles))
    gram.step(chunks, [Buffer(device, (), tf.int32)], [Buffer(device, (), tf.float32)])
    print(f"{device.about}: {len(gram.chain)} segments, {gram.programs} kinds", flush=True)


def images(device: Device, asked: PerImage, run: Run, budget: float) -> None:
    """The step of every stage."""
    plan = plan_images(run, list(asked.needs(run)), budget, asked, 1, device.kind)
    device.plan(plan.expected, plan.micro)
    constants: dict[str, Any] = {}
    for stage in asked.stages(run):
        step = PerImageWalk([asked], stage, [run], device)
        shape = run.subject.model.inputs[0].shape[1:]
        kinds = {"images": (shape, tf.float32), "label": ((), tf.int32), "weight": ((), tf.float32)}
        kinds |= {"position": ((), tf.int32), "role": ((), tf.int32)}
        made = {name: Buffer(device, (plan.micro, *rest), dtype) for name, (rest, dtype) in kinds.items()}
        batch = Batch(**{**made, "images": (made["images"],)})
        sums = step(batch, [{key: Buffer(device, v.shape, _narrow(v.dtype)) for key, v in constants.items()}])
        mine = {key.rpartition("@")[0]: value for key, value in sums.items()}
        mine = {key: _rows(value, stage, run) if key.startswith("rows/") else value for key, value in mine.items()}
        with np.errstate(all="ignore"):
            constants |= {k: np.asarray(v) for k, v in asked.constants(stage, mine, constants, run).items()}


def _narrow(dtype: Any) -> Any:
    return tf.float32 if dtype == np.float64 else dtype  # as tf.constant of what a stage hands on


def _rows(value: np.ndarray, stage: Any, run: Run) -> np.ndarray:
    count = len(run.sources["data"].labels()) if stage.pick else run.images
    return np.resize(value, (count, *value.shape[1:]))


def minibatch_metric(device: Device, subject: Subject) -> None:
    """`MinibatchCKA` of the subject's widest block of layers."""
    taps = analyses.find("cka")().default_taps(subject)
    sizes = sorted({int(np.prod(subject.model.output[tap].shape[1:])) for tap in taps})
    for precision in ("float32", "bfloat16"):
        device.about = {"model": subject.name, "step": "MinibatchCKA", "precision": precision}
        device.plan(0, MINIBATCH)
        centred = device.function(lambda x, p=precision: minibatch_cka._centred.python_function(x, p))
        gram = device.function(lambda blocks: minibatch_cka._narrow.python_function(blocks, "wide"))
        for size in (sizes[0], sizes[-1]):
            gram(centred(Buffer(device, (MINIBATCH, size), tf.float32))[0])
    many = folded.TOGETHER
    fold = device.function(lambda *given: minibatch_cka._folded.python_function(*given, ("u",)))
    vectors, _ = fold(
        *(Buffer(device, shape, tf.float32) for shape in ((many, MINIBATCH, MINIBATCH), (many,), (many,)))
    )
    device.function(folded.products)([vectors["u"], vectors["u"]], [])


def forward(device: Device, subject: Subject) -> None:
    """The bare forward pass, what everything else is measured against."""
    device.about = {"model": subject.name, "step": "forward", "precision": "float32"}
    last = subject.expose([subject.taps[-1]])
    device.plan(0, FORWARD)
    with device.reading():
        step = device.function(lambda x: last(x, training=False))
        step(Buffer(device, (FORWARD, *subject.model.inputs[0].shape[1:]), tf.float32))


class Tape(tf.GradientTape):
    """A tape that takes what stands in for the weights, as it takes them themselves."""

    weights: Sequence[Any] = ()

    def __enter__(self) -> Tape:
        super().__enter__()
        for weight in self.weights:
            if not isinstance(weight.value, tf.Variable):
                self.watch(weight.value)
        return self

    def gradient(self, target: Any, sources: Sequence[Any], **more: Any) -> Any:
        """As its base, of the values."""
        return super().gradient(target, [source.value for source in sources], **more)


def training(device: Device, name: str, budget: float) -> None:
    """An update of the weights, in float32 and with products of bfloat16."""
    from tf_vitcnn.training.learner import cast, learner, state_of
    from tf_vitcnn.training.recipe import Recipe

    model = subject_of(name).model
    count = TRAINING[4 * device.weights[name] > budget / 4]
    for precision in ("float32", "bfloat16"):
        device.about = {"model": name, "step": "training", "precision": precision}
        device.plan(0, count)
        recipe = Recipe(model=name, data="labelled", precision=precision).settled(CLASSES * SHOTS, 768, False)
        with mock.patch.multiple(TFOptimizer, **{n: getattr(BaseOptimizer, n) for n in STATEFUL}):
            net = learner(cast(model, precision), recipe, 100, False)
            device.variables = state_of(net)
            shape, classes = model.inputs[0].shape[1:], net.outputs[0].shape[-1]
            batch = Buffer(device, (count, *shape), tf.float32), Buffer(device, (count, classes), tf.float32)
            Tape.weights = net.trainable_variables
            with mock.patch.object(tf, "GradientTape", Tape), device.reading():
                device.function(lambda x, y, net=net: net.train_step((x, y)))(*batch)


def subjects_of(names: Sequence[str]) -> list[str]:
    """The networks that are checked unless others are named."""
    return list(names) or ["vit_b32", "vit_l16", "bit_r50x1", "mixer_b16", "foreign"]
