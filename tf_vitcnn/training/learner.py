"""A network that Keras can `fit`: soft-label cross-entropy, AdamW or Muon, and each step's own loss and hits as logs.

Keras' running metrics are left out: the sums of an epoch are kept on the host by `Journal`, where a resumed run
finds them again, and a loss that is not finite is seen at its own step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from tf_vitcnn.training.muon import Muon
from tf_vitcnn.training.schedule import WarmupCosine

if TYPE_CHECKING:
    from tf_vitcnn.training.recipe import Recipe

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


class Learner(keras.Model):
    """Images to logits, with a training step that returns sums of its batch."""

    smoothing = 0.0
    schedule: WarmupCosine

    def train_step(self, data: Any) -> dict[str, Any]:
        """One update; the batch's mean loss (label smoothing included) and share of hits."""
        images, targets = data
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        with tf.GradientTape() as tape:
            logits = tf.cast(self(images, training=True), tf.float32)
            loss = tf.reduce_mean(cross_entropy(targets, logits, self.smoothing))
            # gradients add up over replicas
            scaled = self.optimizer.scale_loss(loss / replicas)
        variables = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(scaled, variables), variables, strict=True))
        hits = tf.equal(tf.argmax(targets, axis=-1), tf.argmax(logits, axis=-1))
        return {"loss": loss, "accuracy": tf.reduce_mean(tf.cast(hits, tf.float32))}


def cross_entropy(targets: Any, logits: Any, smoothing: float) -> Any:
    """-sum_c t_c log p_c of each image [b], a share of the targets [b, c] spread evenly."""
    targets = (1.0 - smoothing) * targets + smoothing / targets.shape[-1]
    return tf.nn.softmax_cross_entropy_with_logits(targets, logits)


def learner(model: keras.Model, recipe: Recipe, steps: int, jit: bool | str = "auto") -> Learner:
    """The model's logits, ready to fit, every variable of the optimizer in place."""
    tap = "head/logits" if "head/logits" in model.output else list(model.output)[-1]
    net = Learner(model.inputs[0], model.output[tap], name=model.name)
    net.smoothing = recipe.label_smoothing
    net.schedule = rate = WarmupCosine(recipe.rate or 0.0, steps, round(recipe.warmup * steps))
    optimizer = (Muon if recipe.optimizer == "muon" else keras.optimizers.AdamW)(
        rate, weight_decay=recipe.weight_decay, global_clipnorm=recipe.clip or None, epsilon=1e-8
    )
    # biases, norms, tokens and positions have no scale to keep small
    spared = [weight for weight in net.trainable_variables if "kernel" not in weight.name]
    optimizer.exclude_from_weight_decay(var_list=spared)
    net.compile(optimizer=optimizer, jit_compile=jit)
    net.optimizer.build(net.trainable_variables)
    return net


def cast(model: keras.Model, precision: str) -> keras.Model:
    """The same network, a copy whose products have that precision; float32: the network itself."""
    if precision == "float32":
        return model
    policy = keras.DTypePolicy(POLICIES[precision])

    def in_policy(layer: Any) -> Any:
        config = layer.get_config()
        # the loss reads the logits: they stay float32
        return type(layer).from_config(config if layer.name == "head.logits" else {**config, "dtype": policy})

    work = keras.models.clone_model(model, clone_function=in_policy)
    work.set_weights(model.get_weights())
    return work


def state_of(net: Learner) -> list[Any]:
    """Every variable that the next step depends on, in a fixed order."""
    return [*net.weights, *net.optimizer.variables]
