"""What a model's loading took for granted is said once, and recorded with every table."""

import keras

from tf_vitcnn.checkpoints.load import load
from tf_vitcnn.engine.door import run


def test_a_models_notes_are_said_with_its_first_table_and_recorded_with_all(capsys):
    images = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, 2, padding="same")(images)
    x = keras.layers.Add()([x, keras.layers.Conv2D(4, 3, padding="same")(x)])
    subject = load(keras.Model(images, keras.layers.GlobalAveragePooling2D()(x)), name="mine")
    said, notes = [], []
    for quiet in (True, False, False):  # what a quiet run did not say is still to be said
        table = run("skip_ratio", subject, "digits:test", images=20, quiet=quiet)
        said.append(capsys.readouterr().err.count("nothing says how images reach it"))
        notes.append(sum("nothing says" in note for note in table.attrs["sidecar"]["notes"]))
    assert (said, notes) == ([0, 1, 0], [1, 1, 1])
