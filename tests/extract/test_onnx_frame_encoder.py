"""Image networks in ONNX files: the right pixels go in, embedding and map come out."""

import json

import numpy as np
import pytest

pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')

from onnx import TensorProto, helper

from stg_jax.errors import UserError
from stg_jax.extract.frame_difference import FrameDifference
from stg_jax.extract.onnx.frame_encoder import OnnxFrameEncoder
from tests.fakes.fake_onnx import FULL, save, save_constant, save_encoder

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def checkered(rows=2, columns=3, cell=40, seed=0):
    """Return a frame of plain cells and their colours (rows, columns, 3)."""
    colour = np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    return colour.repeat(cell, 0).repeat(cell, 1), colour


def test_the_map_covers_the_frame_in_the_scale_of_imagenet(tmp_path):
    encoder = OnnxFrameEncoder(save_encoder(tmp_path / 'x.onnx'), batch_size=2)
    frames, colours = zip(*[checkered(seed=seed) for seed in range(3)], strict=True)
    embedding, cells = encoder.encode(frames)
    scaled = (np.stack(colours) / 255 - MEAN) / STD
    assert (encoder.width, encoder.map_width) == (3, 3)
    assert embedding.dtype == cells.dtype == np.float32
    # Only the pixels beside an edge mix two cells.
    np.testing.assert_allclose(cells, scaled, atol=0.1)
    np.testing.assert_allclose(embedding, scaled.mean((1, 2)), atol=1e-2)


@pytest.mark.parametrize('batch', ['batch', 1, 3])
@pytest.mark.parametrize('last', [False, True])
@pytest.mark.parametrize('given', [('embedding', 'map'), ('map_last', 'embedding'), ('map',)])
def test_every_order_of_axes_and_outputs_gives_the_same(tmp_path, batch, last, given):
    plain = OnnxFrameEncoder(save_encoder(tmp_path / 'plain.onnx'), batch_size=2)
    path = save_encoder(tmp_path / 'x.onnx', batch=batch, channels_last=last, outputs=given)
    encoder = OnnxFrameEncoder(path, batch_size=2)
    frames = [checkered(seed=seed, cell=20 + seed)[0] for seed in range(5)]
    for one, other in zip(plain.encode(frames), encoder.encode(frames), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_an_embedding_alone_has_no_map(tmp_path):
    path = save_encoder(tmp_path / 'x.onnx', outputs=('embedding',))
    encoder = OnnxFrameEncoder(path, batch_size=2)
    embedding, cells = encoder.encode([checkered()[0]] * 3)
    assert cells is None
    assert encoder.map_width == 0
    assert embedding.shape == (3, 3)
    assert encoder.encode([])[0].shape == (0, 3)


def test_free_sides_are_224_pixels(tmp_path):
    path = save_encoder(tmp_path / 'x.onnx', size=('height', 'width'), pool=56)
    cells = OnnxFrameEncoder(path, batch_size=1).encode([checkered(4, 4)[0]])[1]
    np.testing.assert_allclose(cells[0], (checkered(4, 4)[1] / 255 - MEAN) / STD, atol=0.15)


@pytest.mark.parametrize('prefix', [0, 1, 5])
def test_tokens_become_a_map_without_those_of_class_and_registers(tmp_path, prefix):
    cells = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    tokens = np.concatenate([np.full((prefix, 4), -1), cells.reshape(6, 4)]).astype(np.float32)
    outputs = {'last_hidden_state': tokens, 'pooler_output': np.full(4, 7.0)}
    path = save_constant(tmp_path / 'x.onnx', outputs, size=(64, 96))
    embedding, found = OnnxFrameEncoder(path, batch_size=2).encode([checkered()[0]])
    np.testing.assert_array_equal(found, cells[None])
    np.testing.assert_array_equal(embedding, [[7] * 4])


def test_the_embedding_is_chosen_by_name_before_place(tmp_path):
    outputs = {'logits': np.zeros(9), 'pooler_output': np.ones((5, 1, 1))}
    path = save_constant(tmp_path / 'x.onnx', outputs)
    embedding, cells = OnnxFrameEncoder(path, batch_size=2).encode([checkered()[0]])
    np.testing.assert_array_equal(embedding, np.ones((1, 5)))
    assert cells is None


CLIP = {'image_mean': [0.48, 0.46, 0.41], 'image_std': [0.27, 0.26, 0.28]}
SCALES = [
    (
        {'mean': '[0.5, 0.4, 0.3]', 'std': '[0.5, 0.5, 0.25]'},
        None,
        [0.5, 0.4, 0.3],
        [0.5, 0.5, 0.25],
    ),
    ({}, CLIP, CLIP['image_mean'], CLIP['image_std']),
    ({}, {**CLIP, 'do_normalize': False}, [0] * 3, [1] * 3),
    ({}, {**CLIP, 'do_rescale': False, 'do_normalize': False}, [0] * 3, [1 / 255] * 3),
]


@pytest.mark.parametrize(('metadata', 'config', 'mean', 'std'), SCALES)
@pytest.mark.parametrize('folder', ['model', 'model/onnx'])
def test_the_scale_of_the_file_goes_before_imagenet(tmp_path, metadata, config, mean, std, folder):
    (tmp_path / folder).mkdir(parents=True)
    if config:
        (tmp_path / 'model' / 'preprocessor_config.json').write_text(json.dumps(config))
    path = save_encoder(tmp_path / folder / 'x.onnx', metadata=metadata)
    frame = np.full((64, 96, 3), (10, 100, 250), np.uint8)
    embedding, _ = OnnxFrameEncoder(path, batch_size=1).encode([frame])
    expected = (frame[0, 0] / 255 - mean) / std
    np.testing.assert_allclose(embedding[0], expected, rtol=1e-5)


RED = np.full((64, 96, 3), (255, 51, 0), np.uint8)
HALVES = {'image_mean': [0.5] * 3, 'image_std': [0.5] * 3}
SMALL_STD = {'image_mean': [0.5, 0.4, 0.3], 'image_std': [0.5, 0.25, 0.2]}
STEPS = {
    'rescale': ({'do_normalize': False}, [1, 0.2, 0]),
    'bytes': ({'do_normalize': False, 'do_rescale': False}, [255, 51, 0]),
    'factor': ({'rescale_factor': 1 / 51}, [5, 1, 0]),
    # MobileViT
    'order': ({'do_flip_channel_order': True, 'do_rescale': True}, [0, 0.2, 1]),
    'order of normalised': (
        {**SMALL_STD, 'do_flip_channel_order': True},
        [(0 - 0.3) / 0.2, (0.2 - 0.4) / 0.25, (1 - 0.5) / 0.5],
    ),
    # EfficientNet, ViViT
    'offset': ({'rescale_factor': 2 / 255, 'rescale_offset': True}, [1, -0.6, -1]),
    'old offset': ({'rescale_factor': 2 / 255, 'offset': True}, [1, -0.6, -1]),
    'offset and mean': (
        {'rescale_factor': 2 / 255, 'rescale_offset': True, **HALVES},
        [(1 - 0.5) / 0.5, (-0.6 - 0.5) / 0.5, (-1 - 0.5) / 0.5],
    ),
    'offset of bytes': ({'do_rescale': False, 'rescale_offset': True}, [255, 51, 0]),
    'twice': ({**SMALL_STD, 'include_top': True}, [0.5 / 0.25, -0.2 / 0.0625, -0.3 / 0.04]),
    'sizes': ({'do_resize': True, 'size': {'shortest_edge': 256}, 'resample': 3}, [1, 0.2, 0]),
    'switched off': (
        {'do_color_quantize': False, 'do_center_crop': False, 'crop_size': 56, 'crop_pct': None},
        [1, 0.2, 0],
    ),
}


@pytest.mark.parametrize('name', STEPS)
def test_every_step_of_an_image_processor_is_obeyed(tmp_path, name):
    config, expected = STEPS[name]
    (tmp_path / 'preprocessor_config.json').write_text(json.dumps(config))
    path = save_encoder(tmp_path / 'model.onnx', outputs=('embedding',))
    embedding, _ = OnnxFrameEncoder(path, batch_size=1).encode([RED])
    np.testing.assert_allclose(embedding[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('step', ['do_color_quantize', 'do_align_long_axis', 'do_grayscale'])
def test_a_step_that_is_not_known_is_refused(tmp_path, step):
    (tmp_path / 'preprocessor_config.json').write_text(json.dumps({step: True}))
    path = save_encoder(tmp_path / 'model.onnx')
    with pytest.raises(UserError, match=f'the step {step} is not implemented'):
        OnnxFrameEncoder(path, batch_size=1)


@pytest.mark.parametrize(
    'config',
    [
        {'do_center_crop': True},
        {'do_center_crop': True, 'crop_size': {'height': 112, 'width': 112}, 'size': 128},
        {'crop_size': 112},
        {'crop_pct': 0.875, 'size': {'shortest_edge': 224}},
        {'do_pad': True},
        {'do_thumbnail': True},
        {'do_image_splitting': True},
    ],
)
def test_a_step_that_shows_another_part_than_the_frame_is_refused(tmp_path, config):
    (tmp_path / 'preprocessor_config.json').write_text(json.dumps(config))
    path = save_encoder(tmp_path / 'x.onnx')
    with pytest.raises(UserError, match='another part of the picture than the whole frame'):
        OnnxFrameEncoder(path, batch_size=1)


@pytest.mark.parametrize(
    ('config', 'size'),
    [
        ({'size': {'height': 112, 'width': 112}}, (112, 112)),
        ({'size': {'height': 112, 'width': 168}}, (112, 168)),
        ({'size': [168, 112]}, (168, 112)),
        ({'size': 168}, (168, 168)),
        ({'size': {'shortest_edge': 112}, 'do_center_crop': False, 'crop_size': 56}, (112, 112)),
        ({'do_resize': False}, (224, 224)),
        ({}, (224, 224)),
    ],
)
def test_free_sides_are_those_of_the_training(tmp_path, config, size):
    (tmp_path / 'preprocessor_config.json').write_text(json.dumps(config))
    path = save_encoder(tmp_path / 'x.onnx', size=('height', 'width'), pool=56)
    cells = OnnxFrameEncoder(path, batch_size=1).encode([RED])[1]
    assert cells.shape[1:3] == (size[0] // 56, size[1] // 56)


NO_SIZE = [
    {'size': {'shortest_edge': 800, 'longest_edge': 1333}},
    {'size': {'longest_edge': 112}},
    {'size': {'height': 112}},
    {'size': {'max_height': 112, 'max_width': 112}},
    {'size': 'large'},
    {'size': [112]},
    {'size': True},
    {'size': 7},
    {'size': 100_000},
    {'size': 112, 'do_resize': False},
]


@pytest.mark.parametrize('config', NO_SIZE)
def test_free_sides_that_the_settings_leave_open_are_refused(tmp_path, config):
    (tmp_path / 'preprocessor_config.json').write_text(json.dumps(config))
    path = save_encoder(tmp_path / 'x.onnx', size=('height', 'width'), pool=56)
    with pytest.raises(UserError, match='names no single height and width'):
        OnnxFrameEncoder(path, batch_size=1)
    fixed = save_encoder(tmp_path / 'fixed.onnx')
    assert OnnxFrameEncoder(fixed, batch_size=1).width == 3


@pytest.mark.parametrize(
    ('config', 'expected'),
    [
        ({'resample': 0}, [1, 1, 1]),
        ({'interpolation': 'nearest'}, [1, 1, 1]),
        ({'resample': 2}, [0.5, 0.5, 0.5]),
        ({'resample': 'BICUBIC'}, [0.5, 0.5, 0.5]),
        ({}, [0.5, 0.5, 0.5]),
    ],
)
def test_the_nearest_pixel_is_taken_where_the_network_was_trained_so(tmp_path, config, expected):
    config = {'do_normalize': False, **config}
    (tmp_path / 'preprocessor_config.json').write_text(json.dumps(config))
    path = save_encoder(tmp_path / 'x.onnx', outputs=('embedding',))
    # Stripes two pixels wide, halved: of each pair, the nearest pixel is always a white one.
    stripes = np.zeros((128, 192, 3), np.uint8)
    stripes[:, 1::2] = 255
    embedding, _ = OnnxFrameEncoder(path, batch_size=1).encode([stripes])
    np.testing.assert_allclose(embedding[0], expected, atol=0.01)


@pytest.mark.parametrize('value', [6, -1, 'sinc', True, [2]])
def test_a_filter_that_does_not_exist_is_refused(tmp_path, value):
    (tmp_path / 'preprocessor_config.json').write_text(json.dumps({'resample': value}))
    path = save_encoder(tmp_path / 'x.onnx')
    with pytest.raises(UserError, match='which is none of nearest, lanczos'):
        OnnxFrameEncoder(path, batch_size=1)


@pytest.mark.parametrize(
    ('metadata', 'config', 'message'),
    [
        ({'mean': '[1, 2]', 'std': '[1, 1, 1]'}, None, 'not three numbers'),
        ({'mean': 'import os', 'std': '[1, 1, 1]'}, None, 'not JSON lists'),
        ({'mean': '[0, 0, 0]', 'std': '[1, 1, 0]'}, None, 'not above zero'),
        ({}, {'image_mean': ['a', 'b', 'c'], 'image_std': [1, 1, 1]}, 'not three numbers'),
        ({}, {'image_mean': [0, 0, 0], 'image_std': [1, 1, 1], 'rescale_factor': 0}, 'not above'),
        ({}, [1, 2], 'not a JSON object'),
    ],
)
def test_a_broken_scale_is_one_sentence(tmp_path, metadata, config, message):
    if config:
        (tmp_path / 'preprocessor_config.json').write_text(json.dumps(config))
    path = save_encoder(tmp_path / 'x.onnx', metadata=metadata)
    with pytest.raises(UserError, match=message) as error:
        OnnxFrameEncoder(path, batch_size=1)
    assert str(tmp_path) in str(error.value)


def test_a_network_of_bytes_gets_bytes(tmp_path):
    nodes = [
        helper.make_node('Cast', ['images'], ['real'], to=FULL),
        helper.make_node('ReduceMean', ['real'], ['embedding'], axes=[1, 2], keepdims=0),
    ]
    shape = ['batch', 8, 8, 3]
    inputs = [('images', TensorProto.UINT8, shape)]
    path = save(tmp_path / 'x.onnx', nodes, inputs, [('embedding', FULL, ['batch', 3])])
    frame = np.full((20, 30, 3), (10, 100, 250), np.uint8)
    embedding, _ = OnnxFrameEncoder(path, batch_size=2).encode([frame])
    np.testing.assert_array_equal(embedding, [[10, 100, 250]])


def test_what_describes_no_picture_is_one_sentence(tmp_path):
    path = save_constant(tmp_path / 'x.onnx', {'table': np.zeros((50, 5))})
    with pytest.raises(UserError, match=r'x\.onnx gives table \(50, 5\) .* neither an embedding'):
        OnnxFrameEncoder(path, batch_size=1)


def test_a_network_that_fails_on_its_pictures_is_one_sentence(tmp_path):
    nodes = [helper.make_node('Reshape', ['images', 'shape'], ['embedding'])]
    inputs = [('images', FULL, ['batch', 3, 'height', 'width'])]
    path = save(
        tmp_path / 'x.onnx',
        nodes,
        inputs,
        [('embedding', FULL, ['batch', None])],
        constants={'shape': np.array([-1, 3 * 17 * 17])},
    )
    with pytest.raises(UserError, match=r'x\.onnx fails on 1 pictures of 224 x 224') as error:
        OnnxFrameEncoder(path, batch_size=1)
    assert '\n' not in str(error.value)


def test_the_difference_of_frames_is_that_of_their_embeddings(tmp_path):
    encoder = OnnxFrameEncoder(save_encoder(tmp_path / 'x.onnx'), batch_size=2)
    motion = FrameDifference(encoder)
    rng = np.random.default_rng(0)
    sizes = [(20, 30), (64, 96), (50, 40)]
    windows = [rng.integers(0, 256, (3, *size, 3), dtype=np.uint8) for size in sizes]
    expected = np.stack(
        [np.subtract(*encoder.encode([after, before])[0]) for before, _, after in windows]
    )
    assert (motion.width, motion.context) == (3, 3)
    np.testing.assert_allclose(motion.encode(windows), expected, atol=1e-6)
    backwards = motion.encode([window[::-1] for window in windows])
    np.testing.assert_allclose(backwards, -expected, atol=1e-6)
    still = motion.encode([np.repeat(window[:1], 3, axis=0) for window in windows])
    np.testing.assert_array_equal(still, 0)


@pytest.mark.parametrize('name', [b'embedding', b'images'])
def test_names_that_are_not_utf_8_are_one_sentence(tmp_path, capfd, name):
    path = save_encoder(tmp_path / 'm.onnx')
    path.write_bytes(path.read_bytes().replace(name, b'\xff' * len(name)))
    with pytest.raises(UserError, match=r'm\.onnx is not a readable ONNX model'):
        OnnxFrameEncoder(path, batch_size=2)
    assert capfd.readouterr().out == ''
