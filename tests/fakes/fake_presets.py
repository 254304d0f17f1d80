"""Tiny random Keras Hub presets, written by the library's own `save_to_preset`.

Every function takes a folder that does not exist yet and returns it.
"""

from stg_jax.data.tf import tf
from stg_jax.extract.keras.preset import import_keras_hub

SIDE = 32  # pixels a side of every picture model
WINDOW = 4  # frames of the video model


def tiny_resnet(folder, **converter):
    """Write a ResNet with a map of 4 x 4 x 128."""
    hub = _seeded()
    backbone = hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 128],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type='basic_block',
    )
    return _save(folder, backbone, hub.layers.ResNetImageConverter(**_converter(converter)))


def tiny_dinov2(folder):
    """Write a DINOv2 with one class and two register tokens before a map of 4 x 4 x 16."""
    hub = _seeded()
    backbone = hub.models.DINOV2Backbone(
        patch_size=8,
        num_layers=2,
        hidden_dim=16,
        num_heads=2,
        intermediate_dim=32,
        num_register_tokens=2,
        image_shape=(SIDE, SIDE, 3),
        position_embedding_shape=(SIDE, SIDE, 3),
    )
    return _save(folder, backbone, hub.layers.DINOV2ImageConverter(**_converter({})))


def tiny_dinov3(folder):
    """Write a DINOv3 with one class and two register tokens before a map of 4 x 4 x 16."""
    hub = _seeded()
    backbone = hub.models.DINOV3Backbone(
        patch_size=8,
        num_layers=2,
        hidden_dim=16,
        num_heads=2,
        intermediate_dim=32,
        num_register_tokens=2,
        image_shape=(SIDE, SIDE, 3),
    )
    return _save(folder, backbone, hub.layers.DINOV3ImageConverter(**_converter({})))


def tiny_clip(folder):
    """Write a CLIP with embeddings of 12 channels and a map of 4 x 4 x 16."""
    hub = _seeded()
    size = {'num_layers': 2, 'num_heads': 2, 'hidden_dim': 16, 'intermediate_dim': 32}
    vision = hub.models.CLIPVisionEncoder(patch_size=8, image_shape=(SIDE, SIDE, 3), **size)
    text = hub.models.CLIPTextEncoder(
        vocabulary_size=64, embedding_dim=16, max_sequence_length=8, **size
    )
    backbone = hub.models.CLIPBackbone(vision, text, projection_dim=12)
    return _save(folder, backbone, hub.layers.CLIPImageConverter(**_converter({})))


def tiny_siglip(folder):
    """Write a SigLIP with embeddings of 16 channels and a map of 4 x 4 x 16."""
    hub = _seeded()
    size = {'num_layers': 2, 'num_heads': 2, 'hidden_dim': 16, 'intermediate_dim': 32}
    vision = hub.models.SigLIPVisionEncoder(patch_size=8, image_shape=(SIDE, SIDE, 3), **size)
    text = hub.models.SigLIPTextEncoder(
        vocabulary_size=64, embedding_dim=16, max_sequence_length=8, **size
    )
    backbone = hub.models.SigLIPBackbone(vision, text)
    return _save(folder, backbone, hub.layers.SigLIPImageConverter(**_converter({})))


def tiny_video_prism(folder, *, text_layers=0):
    """Write a VideoPrism of four frames, with a text tower where `text_layers` > 0."""
    hub = _seeded()
    backbone = hub.models.VideoPrismBackbone(
        num_frames=WINDOW,
        patch_size=8,
        hidden_dim=16,
        intermediate_dim=32,
        num_heads=2,
        num_spatial_layers=1,
        num_temporal_layers=1,
        num_auxiliary_layers=1,
        vocabulary_size=64,
        num_text_layers=text_layers,
        image_shape=(SIDE, SIDE, 3),
    )
    converter = hub.layers.VideoPrismImageConverter((SIDE, SIDE), scale=1 / 255)
    return _save(folder, backbone, converter)


def tiny_d_fine(folder):
    """Write a D-FINE of 5 classes and 20 queries, which takes frames stretched to a square."""
    hub = _seeded()
    side = 2 * SIDE
    network = hub.models.HGNetV2Backbone(
        stem_channels=[3, 16, 16],
        stackwise_stage_filters=[[16, 16, 16, 1, 1, 3]] * 4,
        apply_downsample=[False, True, True, True],
        use_lightweight_conv_block=[False] * 4,
        depths=[1, 1, 1, 1],
        hidden_sizes=[16] * 4,
        embedding_size=16,
        use_learnable_affine_block=True,
        hidden_act='relu',
        image_shape=(None, None, 3),
        out_features=['stage3', 'stage4'],
    )
    backbone = hub.models.DFineBackbone(
        backbone=network,
        decoder_in_channels=[16, 16],
        encoder_hidden_dim=16,
        num_denoising=0,
        num_labels=5,
        hidden_dim=16,
        learn_initial_query=False,
        num_queries=20,
        anchor_image_size=(side, side),
        feat_strides=[16, 32],
        num_feature_levels=2,
        encoder_in_channels=[16, 16],
        encode_proj_layers=[1],
        num_attention_heads=2,
        encoder_ffn_dim=16,
        num_encoder_layers=1,
        hidden_expansion=1.0,
        depth_multiplier=0.34,
        eval_idx=-1,
        num_decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=16,
        decoder_n_points=[2, 2],
        lqe_hidden_dim=16,
        num_lqe_layers=1,
        out_features=['stage3', 'stage4'],
        image_shape=(None, None, 3),
    )
    return _save_detector(folder, hub.models.DFineObjectDetector, backbone, side)


def tiny_detector(folder):
    """Write a RetinaNet of 5 classes, which takes frames with their aspect kept."""
    hub = _seeded()
    network = hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 16, 16, 16],
        stackwise_num_blocks=[1, 1, 1, 1],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type='basic_block',
    )
    backbone = hub.models.RetinaNetBackbone(network, min_level=3, max_level=5, use_p5=False)
    return _save_detector(
        folder,
        hub.models.RetinaNetObjectDetector,
        backbone,
        2 * SIDE,
        pre_logits_num_conv_layers=1,
        pad=True,
    )


def tiny_bert(folder):
    """Write a text model, which describes no pictures."""
    hub = _seeded()
    backbone = hub.models.BertBackbone(
        vocabulary_size=8, num_layers=1, num_heads=1, hidden_dim=4, intermediate_dim=4
    )
    return _save(folder, backbone)


def _seeded():
    hub = import_keras_hub()
    import keras

    keras.utils.set_random_seed(0)
    # It seeds TensorFlow too, whose shuffles would take that in for the rest of the process.
    tf.random.set_seed(None)
    return hub


def _converter(changes):
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return {
        'image_size': (SIDE, SIDE),
        'scale': [1 / 255 / s for s in std],
        'offset': [-m / s for m, s in zip(mean, std, strict=True)],
        **changes,
    }


def _save_detector(folder, kind, backbone, side, pad=False, **options):
    converter = kind.preprocessor_cls.image_converter_cls(
        (side, side), scale=1 / 255, crop_to_aspect_ratio=False, pad_to_aspect_ratio=pad
    )
    preprocessor = kind.preprocessor_cls(image_converter=converter)
    task = kind(backbone, num_classes=5, preprocessor=preprocessor, **options)
    if hasattr(task, 'box_head'):
        # It starts with boxes far outside of the frame, as training soon brings them back.
        bias = task.box_head.prediction_layer.bias
        bias.assign(0 * bias)
    return _save(folder, task)


def _save(folder, *parts):
    for part in parts:
        part.save_to_preset(str(folder))
    return folder
