"""Every image backbone of keras-hub at a tiny size, by name: how to make it, and the height of its images."""

BLOCKS = {"patch_size": 8, "num_layers": 2, "hidden_dim": 12, "num_heads": 3}
SMALL = {**BLOCKS, "image_shape": (16, 16, 3), "intermediate_dim": 24}
ROTARY = {**SMALL, "hidden_dim": 48}  # a head's channels are parted in four
RESNET = {
    **{"input_conv_filters": [64], "input_conv_kernel_sizes": [7], "stackwise_num_filters": [64, 64]},
    **{"stackwise_num_blocks": [2, 2], "stackwise_num_strides": [1, 2], "image_shape": (32, 32, 3)},
}
CSP = {
    **{"stem_filters": 8, "stem_kernel_size": 3, "stem_strides": 1, "stackwise_depth": [1, 2]},
    **{"stackwise_strides": [1, 2], "stackwise_num_filters": [8, 16], "image_shape": (32, 32, 3)},
}
EFFICIENT = {
    **{"stackwise_kernel_sizes": [3, 3], "stackwise_num_repeats": [2, 2], "stackwise_input_filters": [8, 8]},
    **{"stackwise_output_filters": [8, 16], "stackwise_expansion_ratios": [1, 4], "stackwise_strides": [1, 2]},
    **{"stackwise_squeeze_and_excite_ratios": [0.0, 0.25], "stackwise_block_types": ["fused", "unfused"]},
    **{"stackwise_force_input_filters": [0, 0], "stackwise_nores_option": [False, False], "num_features": 16},
    **{"stackwise_width_coefficients": [1.0, 1.0], "stackwise_depth_coefficients": [1.0, 1.0], "min_depth": 8},
    **{"input_shape": (32, 32, 3)},
}
MOBILE = {
    **{
        "stackwise_expansion": [[8, 12], [16, 16]],
        "stackwise_num_blocks": [2, 2],
        "depthwise_filters": 8,
        "depthwise_stride": 1,
        "depthwise_residual": False,
    },
    **{"stackwise_num_filters": [[8, 8], [12, 12]], "stackwise_kernel_size": [[3, 3], [5, 5]]},
    **{"stackwise_num_strides": [[2, 1], [2, 1]], "stackwise_se_ratio": [[None, None], [0.25, 0.25]]},
    **{"stackwise_activation": [["relu", "relu"], ["hard_swish", "hard_swish"]], "squeeze_and_excite": 0.5},
    **{"stackwise_padding": [[1, 1], [2, 2]], "last_layer_filter": 16},
    **{"output_num_filters": 16, "input_activation": "hard_swish", "output_activation": "hard_swish"},
    **{"input_num_filters": 8, "image_shape": (32, 32, 3)},
}
MOBILE5 = {  # edge and inverted residuals, one key for all heads
    **{"stackwise_block_types": [["er"], ["uir", "mqa"], ["mqa", "uir"]], "stackwise_num_blocks": [1, 2, 2]},
    **{"stackwise_num_filters": [[8], [16, 16], [16, 16]], "stackwise_strides": [[2], [2, 1], [1, 1]]},
    **{
        "stackwise_act_layers": [["relu"], ["relu"] * 2, ["relu"] * 2],
        "stackwise_exp_ratios": [[4.0], [4.0] * 2, [4.0] * 2],
    },
    **{key: [[0], [0, 0], [0, 0]] for key in ("stackwise_dw_start_kernel_sizes", "stackwise_dw_end_kernel_sizes")},
    **{"stackwise_se_ratios": [[0.0], [0.0] * 2, [0.0] * 2], "stackwise_dw_kernel_sizes": [[0], [5, 3], [3, 5]]},
    **{"stackwise_exp_kernel_sizes": [[3], [0, 0], [0, 0]], "stackwise_pw_kernel_sizes": [[1], [0, 0], [0, 0]]},
    **{"stackwise_num_heads": [[0], [0, 2], [2, 0]], "stackwise_key_dims": [[0], [0, 8], [8, 0]]},
    **{"stackwise_value_dims": [[0], [0, 8], [8, 0]], "stackwise_kv_strides": [[0], [0, 2], [1, 0]]},
    **{"stackwise_use_cpe": [[False], [False] * 2, [False] * 2], "use_msfa": False, "image_shape": (32, 32, 3)},
}
MIT = {
    **{"image_shape": (32, 32, 3), "hidden_dims": [8, 16], "num_layers": 2, "max_drop_path_rate": 0.1},
    **{"layerwise_num_heads": [2, 2], "layerwise_sr_ratios": [2, 1], "layerwise_patch_sizes": [3, 3]},
    **{"layerwise_strides": [4, 2], "layerwise_depths": [2, 2]},
}
HGNET = {
    **{"depths": [1, 2], "embedding_size": 8, "hidden_sizes": [16, 24], "stem_channels": [3, 8, 8]},
    **{"hidden_act": "relu", "use_learnable_affine_block": True, "image_shape": (32, 32, 3)},
    **{"stackwise_stage_filters": [(8, 8, 16, 1, 2, 3), (16, 8, 24, 2, 2, 3)], "apply_downsample": [False, True]},
    **{"use_lightweight_conv_block": [False, True]},
}


def _resnet(hub, **kind):
    return hub.models.ResNetBackbone(**RESNET, **kind)


def _siglip(hub):
    return hub.models.SigLIPVisionEncoder(**SMALL)


def _dinov2(hub, **more):
    return hub.models.DINOV2Backbone(**SMALL, position_embedding_shape=(24, 24, 3), layer_scale_init_value=0.5, **more)


def _segformer(hub):
    return hub.models.SegFormerBackbone(image_encoder=hub.models.MiTBackbone(**MIT), projection_filters=8)


def _deeplab(hub):
    return hub.models.DeepLabV3Backbone(
        image_encoder=_resnet(hub, block_type="basic_block"),
        projection_filters=8,
        low_level_feature_key="P2",
        spatial_pyramid_pooling_key="P3",
        upsampling_size=2,
        dilation_rates=[1, 2, 3],
    )


def _depth_anything(hub):
    encoder = hub.models.DINOV2Backbone(
        **{**SMALL, "num_layers": 4, "image_shape": (48, 48, 3)},
        position_embedding_shape=(48, 48),
        apply_layernorm=True,
    )
    return hub.models.DepthAnythingBackbone(
        image_encoder=encoder,
        reassemble_factors=[4, 2, 1, 0.5],
        neck_hidden_dims=[4, 8, 8, 8],
        fusion_hidden_dim=8,
        head_hidden_dim=4,
        head_in_index=-1,
        feature_keys=["stage1", "stage2", "stage3", "stage4"],
    )


def _retinanet(hub):
    encoder = hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 64, 64, 64],
        stackwise_num_blocks=[2, 2, 2, 2],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
        image_shape=(64, 64, 3),
    )
    return hub.models.RetinaNetBackbone(
        image_encoder=encoder, min_level=3, max_level=5, use_p5=False, image_shape=(64, 64, 3)
    )


BACKBONES = {
    "vit": (lambda hub: hub.models.ViTBackbone(**BLOCKS, mlp_dim=24, image_shape=(16, 16, 3), dropout_rate=0.1), 16),
    "deit": (lambda hub: hub.models.DeiTBackbone(**SMALL), 16),
    "dinov2": (_dinov2, 16),
    "dinov2_registers": (lambda hub: _dinov2(hub, num_register_tokens=4, use_swiglu_ffn=True), 16),
    "dinov3": (lambda hub: hub.models.DINOV3Backbone(**ROTARY, num_register_tokens=4), 16),
    "clip": (lambda hub: hub.models.CLIPVisionEncoder(**SMALL), 16),
    "metaclip_2": (lambda hub: hub.models.MetaCLIP2VisionEncoder(**SMALL), 16),
    "siglip": (_siglip, 16),
    "swin": (
        lambda hub: hub.models.SwinTransformerBackbone(
            image_shape=(32, 32, 3), embed_dim=12, depths=(2, 2), num_heads=(2, 4), window_size=4, patch_size=2
        ),
        32,
    ),
    "mit": (lambda hub: hub.models.MiTBackbone(**MIT), 32),
    "vit_det": (
        lambda hub: hub.models.ViTDetBackbone(
            hidden_size=12,
            num_layers=2,
            intermediate_dim=24,
            num_heads=3,
            global_attention_layer_indices=[1],
            image_shape=(32, 32, 3),
            patch_size=8,
            num_output_channels=8,
            window_size=2,
        ),
        32,
    ),
    "mobilenetv5": (lambda hub: hub.models.MobileNetV5Backbone(**MOBILE5), 32),
    "mobilenet": (lambda hub: hub.models.MobileNetBackbone(**MOBILE), 32),
    "resnet_v1": (lambda hub: _resnet(hub, block_type="bottleneck_block"), 32),
    "resnet_v2": (lambda hub: _resnet(hub, block_type="basic_block", use_pre_activation=True), 32),
    "resnet_vd": (
        lambda hub: hub.models.ResNetBackbone(
            **{**RESNET, "input_conv_filters": [4, 4, 64], "input_conv_kernel_sizes": [3, 3, 3]},
            block_type="bottleneck_block_vd",
        ),
        32,
    ),
    "efficientnet": (lambda hub: hub.models.EfficientNetBackbone(**EFFICIENT), 32),
    "cspnet": (lambda hub: hub.models.CSPNetBackbone(**CSP, stage_type="dark", block_type="dark_block"), 32),
    "hgnetv2": (lambda hub: hub.models.HGNetV2Backbone(**HGNET), 32),
    "densenet": (lambda hub: hub.models.DenseNetBackbone([2, 2], image_shape=(32, 32, 3), growth_rate=4), 32),
    "vgg": (lambda hub: hub.models.VGGBackbone([1, 2], [4, 8], image_shape=(32, 32, 3)), 32),
    "xception": (
        lambda hub: hub.models.XceptionBackbone([[8, 8], [8, 8]], [True, False], image_shape=(32, 32, 3)),
        32,
    ),
    "segformer": (_segformer, 32),
    "deeplab_v3": (_deeplab, 32),
    "depth_anything": (_depth_anything, 48),
    "retinanet": (_retinanet, 64),
}


def seeded(model):
    """Weights that are not what initializers give."""
    import numpy as np

    for i, weight in enumerate(model.weights):
        if "float" in weight.dtype:
            values = 0.2 * np.random.default_rng(i).normal(size=weight.shape)
            weight.assign(np.abs(values) + 0.5 if "variance" in weight.path else values)
    return model
