"""The columns of a training's log: one row per epoch. `read_table` reads it as any table."""

from tf_vitcnn.tables.schema import Schema

NAME = "training_log"
SCHEMA = Schema(
    keys=("epoch", "step"),
    values={
        "loss": (0, float("inf")),
        "accuracy": (0, 1),
        "val_accuracy": (0, 1),
        "learning_rate": (0, float("inf")),
        "images_per_second": (0, float("inf")),
    },
    integers=("epoch", "step"),
    nullable=("val_accuracy", "images_per_second"),
)
