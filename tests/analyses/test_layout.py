"""Which layers analyses take by themselves, in networks whose layers keep their own names."""

import keras
import pytest

from tests import toys, users
from tf_vitcnn import analyses, load
from tf_vitcnn.analyses.layout import block_ends, post_residual, read_out

L = keras.layers


@pytest.fixture(scope="module")
def post_norm():
    """A transformer that norms after its additions: no block of ours."""
    x = images = keras.Input((16, 16, 3))
    x = L.Reshape((16, 8))(L.Conv2D(8, 4, 4, name="patches")(x))
    for i in range(2):
        x = L.LayerNormalization(name=f"n{i}a")(
            L.Add(name=f"add{i}a")([x, L.MultiHeadAttention(2, 4, name=f"mha{i}")(x, x)])
        )
        y = L.Dense(8, name=f"down{i}")(L.Dense(16, activation="gelu", name=f"up{i}")(x))
        x = L.LayerNormalization(name=f"n{i}b")(L.Add(name=f"add{i}b")([x, y]))
    x = L.GlobalAveragePooling1D(name="mean")(x)
    return load(users.seeded(keras.Model(images, L.Dense(3, name="logits")(x), name="post_norm")))


def test_two_blocks_are_taken_not_two_additions_of_one(post_norm):
    assert post_residual(post_norm) == ["add0a", "add0b", "add1a", "add1b"]
    assert block_ends(post_norm) == ["add0b", "add1b"]
    assert analyses.find("localization")().default_taps(post_norm) == ["add0b", "add1b"]
    assert post_norm.provenance["depth"] == 2


def test_probes_read_what_the_head_reads(post_norm):
    assert read_out(post_norm) == ["n1b", "mean"]
    probe = analyses.find("probe")
    assert probe(test="digits:test").default_taps(post_norm) == ["add0b", "add1b", "n1b", "mean"]
    assert probe(test="digits:test", tokens="each").default_taps(post_norm) == ["add0b", "add1b"]
    assert read_out(toys.shared("vit")) == ["final/ln/out", "head/pooled"]
    assert read_out(toys.shared("resnet")) == ["final/act/out", "head/pooled"]
    assert read_out(load(users.normalised(), image_size=(32, 24))) == ["head/pooled"]
