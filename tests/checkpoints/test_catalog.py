import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.golden import seeded
from tf_vitcnn.checkpoints import catalog
from tf_vitcnn.checkpoints.layouts import count, rows
from tf_vitcnn.models.specs import SPECS

SCRIPTS = Path(__file__).parents[2] / "scripts"
MIB = 2**20
# vision_transformer/vit_jax/models_test.py, big_transfer, deit: parameters with 1000 classes (224 pixels)
PUBLISHED = {
    **{"vit_b8": 86_576_872, "vit_b16": 86_567_656, "vit_b32": 88_224_232, "vit_l16": 304_326_632},
    **{"vit_l32": 306_535_400, "vit_s16": 22_050_664, "vit_s32": 22_878_952, "vit_s16_gap": 22_049_896},
    **{"vit_s32_gap": 22_878_184, "vit_b16_gap": 86_566_120, "vit_b32_gap": 88_222_696, "r_ti16": 6_337_704},
    **{"r26_s32": 36_431_912, "r50_l32": 328_994_856, "mixer_b16": 59_880_472, "mixer_b32": 60_293_428},
    **{"mixer_l16": 208_196_168, "bit_r50x1": 25_549_352, "bit_r50x3": 217_319_080, "bit_r101x1": 44_541_480},
    **{"bit_r101x3": 387_934_888, "bit_r152x2": 236_335_208, "bit_r152x4": 936_533_224},
}
# sizes of files in MiB, as published; arrays take 4 bytes a number, names and headers less than 0.15 MiB
SIZES = {
    **{"vit_b16@imagenet21k": 393.69, "vit_b32@imagenet21k": 400.01, "vit_b8@imagenet21k": 393.72},
    **{"r50_b16@imagenet21k": 439.85, "r26_b32@imagenet21k": 450.23, "vit_b16@imagenet21k+imagenet2012": 331.40},
    **{"vit_b16@imagenet21k+imagenet2012-224": 330.29, "vit_b32@imagenet21k+imagenet2012": 336.89},
    **{"vit_b8@imagenet21k+imagenet2012": 334.78, "r50_b16@imagenet21k+imagenet2012": 377.57},
    **{"vit_b16@sam": 330.3, "vit_b32@sam": 336.61, "mixer_b16@imagenet21k": 289.61, "mixer_l16@imagenet21k": 875.78},
    **{"mixer_b16@imagenet2012": 228.47, "mixer_l16@imagenet2012": 794.29},
}
ROUNDED = {
    **{"vit_h14@imagenet21k": 2.46 * 1024, "vit_l16@imagenet21k": 1.22 * 1024, "vit_l32@imagenet21k": 1.23 * 1024},
    **{"vit_ti16@augreg-imagenet21k": 37, "vit_s16@augreg-imagenet21k": 115, "vit_s32@augreg-imagenet21k": 118},
    **{"vit_b16@augreg-imagenet21k": 391, "vit_b32@augreg-imagenet21k": 398, "vit_l16@augreg-imagenet21k": 1243},
    **{"r_ti16@augreg-imagenet21k": 40, "r26_s32@augreg-imagenet21k": 170, "r50_l32@augreg-imagenet21k": 1337},
}
BIT_21K = {
    **{"bit_r50x1": 68_256_659, "bit_r50x3": 345_399_315, "bit_r101x1": 87_248_787, "bit_r101x3": 516_015_123},
    **{"bit_r152x2": 321_728_979, "bit_r152x4": 1_107_299_923},
}


def entry(name):
    model, _, variant = name.partition("@")
    return catalog.variants(model)[variant]


@pytest.mark.parametrize("item", catalog.ENTRIES, ids=lambda item: f"{item.model}@{item.variant}")
def test_an_entry_counts_as_its_model_does(item):
    assert item.parameters == count(item.spec, (item.image_size, item.image_size), item.classes)
    assert item.preprocessing().size == (item.image_size, item.image_size)
    if item.classes == 1000 and item.image_size == 224 and item.model in PUBLISHED:
        assert item.parameters == PUBLISHED[item.model]
    if item.model in BIT_21K and item.classes == 21843:
        assert item.parameters == BIT_21K[item.model]


def test_published_file_sizes():
    for name, size in SIZES.items():
        assert 0 < size - entry(name).parameters * 4 / MIB < 0.15, name
    for name, size in ROUNDED.items():
        assert abs(size - entry(name).parameters * 4 / MIB) < max(1, size / 240), name


def test_names_are_unique_and_every_family_has_released_weights():
    names = [(item.model, item.variant) for item in catalog.ENTRIES]
    assert len(set(names)) == len(names)
    assert not {name for name in SPECS if not catalog.variants(name)} - {
        name for name in SPECS if name.endswith("_gap")
    }
    assert next(iter(catalog.variants("vit_b32"))) == "imagenet21k"


@pytest.mark.parametrize(
    ("table", "name"),
    [
        ("ViT-B_32@21k_orig_224", "vit_b32@imagenet21k"),
        ("ViT-Ti_16@1k_224", "vit_ti16@augreg-imagenet21k+imagenet2012-224"),
        ("ViT-S_16-gap-norep@1k_224", "vit_s16_gap@gsam"),
        ("BiT-R50x1@1000", "bit_r50x1@imagenet2012"),
        ("Mixer-B_16@1k_224", "mixer_b16@imagenet2012"),
    ],
)
def test_released_names_and_shapes(table, name):
    item = entry(name)
    expected = {row.key: row.shape for row in rows(item.spec, (224, 224), item.classes)}
    assert {key: shape[2:] if "head/conv2d/kernel" in key else shape for key, shape in seeded.table(table).items()} == (
        expected
    )


def run(script, *flags):
    command = [sys.executable, str(SCRIPTS / script), *flags]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS.parent)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_the_script_prints_the_catalog():
    every = run("catalog.py")
    assert every.returncode == 0
    assert not every.stderr
    assert sum("104,843,091" in line and "vit_b32" in line for line in every.stdout.splitlines()) == 1


@pytest.mark.slow
def test_the_script_prints_a_models_taps():
    one = run("catalog.py", "vit_ti16")
    assert one.returncode == 0
    assert not one.stderr
    assert any(
        line.split() == ["7", "block00/attn/probs", "3", "x", "197", "x", "197"] for line in one.stdout.splitlines()
    )


def test_scripts_refuse_in_one_line():
    for script, spec in (("catalog.py", "vit_b23"), ("verify.py", "vit_b32@/nowhere.npz")):
        told = run(script, spec)
        assert told.returncode == 2
        assert not told.stdout
        assert len(told.stderr.splitlines()) == 1, told.stderr
