"""Misspelt names are answered at once: without TensorFlow, and where the catalog knows better without the network."""

import subprocess
import sys

import keras
import pytest

from tf_vitcnn.checkpoints.keras_applications import classes
from tf_vitcnn.checkpoints.load import refuse_unknown
from tf_vitcnn.errors import BadInput

NAMES = {
    "keras:ResNet5": "did you mean 'ResNet50'",
    "keras:ResNet50@imagnet": "did you mean 'imagenet'",
    "timm:vit_bsae_patch16_224": "did you mean 'timm:vit_base_patch16_224",
    "timm:vit_base_patch16_224.augrag_in1k": "did you mean 'timm:vit_base_patch16_224.augreg_in1k'",
    "hf:dinov2-small": "did you mean 'hf:facebook/dinov2-small'",
}
FINE = ("keras:ResNet50", "keras:ResNet50@random", "timm:vit_base_patch16_224", "hf:facebook/dinov2-small")


def test_names_are_those_of_keras():
    assert sorted(classes()) == sorted(name for name in dir(keras.applications) if name[0].isupper())


@pytest.mark.parametrize("spec", NAMES)
def test_the_nearest_name_is_said(spec):
    with pytest.raises(BadInput, match=NAMES[spec]) as caught:
        refuse_unknown(spec)
    assert "\n" not in str(caught.value)


def test_neither_tensorflow_nor_keras_is_loaded_for_it():
    code = (
        "import sys\nfrom tf_vitcnn.errors import BadInput\nfrom tf_vitcnn.checkpoints.load import refuse_unknown\n"
        f"for spec in {FINE}: refuse_unknown(spec)\n"
        f"for spec in {list(NAMES)}:\n"
        "    try: refuse_unknown(spec)\n"
        "    except BadInput: continue\n"
        "    sys.exit(spec)\n"
        "assert not {'tensorflow', 'keras', 'huggingface_hub'} & set(sys.modules), 'loaded'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
