import pytest

from tests.golden import torch_seeded
from tf_vitcnn.checkpoints import timm_vit, torch_conv
from tf_vitcnn.checkpoints.releases import find, releases
from tf_vitcnn.commands.catalog import main
from tf_vitcnn.errors import BadInput


def test_every_release_is_one_that_we_read_and_says_what_it_is():
    assert len({release.spec for release in releases()}) == len(releases()) > 500
    for release in releases():
        assert release.parameters > 1e5 and release.trained_on, release
        assert release.preprocessing.size == (release.image_size,) * 2
        dialect, _, name = release.spec.partition(":")
        if dialect == "timm":
            architecture = name.partition(".")[0]
            assert timm_vit.reads(architecture) or torch_conv.reads(architecture), name
        else:
            assert dialect == "hf" and name.count("/") == 1


def test_a_bare_name_is_the_architecture_s_default():
    assert find("timm:vit_small_patch14_dinov2").spec == "timm:vit_small_patch14_dinov2.lvd142m"
    assert find("timm:resnet50").spec == "timm:resnet50.a1_in1k"
    assert find("timm:vit_base_patch16_224").spec == "timm:vit_base_patch16_224.augreg2_in21k_ft_in1k"
    assert find("timm:nothing") is None


def test_published_numbers_of_parameters():
    published = {"timm:vit_small_patch14_dinov2.lvd142m": 22_056_192, "timm:convnext_tiny.fb_in1k": 28_589_128}
    for spec, parameters in published.items():
        assert find(spec).parameters == parameters


def test_the_catalog_is_filtered_by_family(capsys):
    assert not main(["--family", "dinov2"], "catalog")
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 17
    assert all("dinov2" in line and "apache-2.0" in line and "lvd142m" in line for line in shown[1:])
    assert not main(["--family", "mixer"], "catalog")
    assert "mixer_b16" in capsys.readouterr().out
    with pytest.raises(BadInput, match="unknown family 'dinov9'; did you mean 'dinov"):
        main(["--family", "dinov9"], "catalog")


def test_the_golden_architectures_are_covered():
    names = {torch_seeded.case(name)["config"].get("architecture") for name in torch_seeded.cases("timm_")}
    released = {release.spec.removeprefix("timm:").partition(".")[0] for release in releases()}
    assert len(names & released) > 20
