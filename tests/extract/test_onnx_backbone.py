"""A frame encoder cut out of a detector."""

import numpy as np
import pytest

pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')

from onnx import helper

from stg_jax.errors import UserError
from stg_jax.extract.onnx.backbone import cut_backbone
from stg_jax.extract.onnx.frame_encoder import OnnxFrameEncoder
from stg_jax.extract.video.frames import read_frames
from tests.fakes.fake_onnx import FULL, save, save_constant
from tests.fakes.real_data import real_data


def save_detector(path, narrow=2):
    """Write a YOLOX whose map is the mean of each quarter, narrowed before it is enlarged."""
    pool = {'kernel_shape': [32, 32], 'strides': [32, 32]}
    nodes = [
        helper.make_node('AveragePool', ['images'], ['map'], **pool),
        helper.make_node('Conv', ['map', 'weight'], ['narrowed']),
        helper.make_node('Sigmoid', ['narrowed'], ['gate']),
        helper.make_node('Mul', ['narrowed', 'gate'], ['swish']),
        helper.make_node('Resize', ['swish', '', 'scales'], ['finer']),
        helper.make_node('ReduceMean', ['finer'], ['mean'], axes=[1, 2, 3], keepdims=0),
        helper.make_node('Mul', ['mean', 'zero'], ['nothing']),
        helper.make_node('Reshape', ['nothing', 'shape'], ['column']),
        helper.make_node('Add', ['column', 'table'], ['output']),
    ]  # fmt: skip
    constants = {
        'weight': np.ones((narrow, 3, 1, 1), np.float32),
        'scales': np.float32([1, 1, 2, 2]),
        'zero': np.float32([0]),
        'shape': np.array([-1, 1, 1]),
        'table': np.full((1, 84, 85), 0.5, np.float32),  # of 8 x 8, 4 x 4 and 2 x 2 cells
    }
    shape = ['batch', 3, 64, 64]
    outputs = [('output', FULL, ['batch', 84, 85])]
    return save(path, nodes, [('images', FULL, shape)], outputs, constants=constants)


def test_the_map_before_the_pyramid_is_given_in_the_pixels_of_the_detector(tmp_path):
    out = tmp_path / 'encoder.onnx'
    assert cut_backbone(save_detector(tmp_path / 'x.onnx'), out) == 3
    frame = np.random.default_rng(0).integers(0, 256, (2, 2, 3), np.uint8).repeat(32, 0)
    frame = frame.repeat(32, 1)
    embedding, maps = OnnxFrameEncoder(out, batch_size=2).encode([frame] * 3)
    # YOLOX reads blue first, 0 to 255.
    np.testing.assert_allclose(maps[2], frame[::32, ::32, ::-1], rtol=1e-5)
    np.testing.assert_allclose(embedding[0], frame[..., ::-1].mean(axis=(0, 1)), rtol=1e-5)


def test_a_map_that_is_not_narrowed_is_taken_as_it_is(tmp_path):
    path = save_detector(tmp_path / 'x.onnx', narrow=4)
    assert cut_backbone(path, tmp_path / 'encoder.onnx') == 4


def test_what_has_no_pyramid_or_is_no_detector_is_one_sentence(tmp_path):
    path = save_constant(tmp_path / 'x.onnx', {'output': np.full((84, 85), 0.5)})
    with pytest.raises(UserError, match=r'x\.onnx enlarges no map'):
        cut_backbone(path, tmp_path / 'encoder.onnx')
    path = save_constant(tmp_path / 'y.onnx', {'embedding': np.zeros(7)})
    with pytest.raises(UserError, match=r'embedding \(7,\)'):
        cut_backbone(path, tmp_path / 'encoder.onnx')
    assert not (tmp_path / 'encoder.onnx').exists()


def test_an_encoder_is_cut_out_of_a_real_detector(tmp_path):
    out = tmp_path / 'encoder.onnx'
    assert cut_backbone(real_data('detectors', 'yolox_nano.onnx'), out) == 256
    clips = ('zTn-nNj5Bng_61_77.avi', 'imageio_cockatoo.mp4')
    frames = [f for clip in clips for f in read_frames(real_data('videos', clip), 2).frames]
    embedding, maps = OnnxFrameEncoder(out, batch_size=2).encode(frames)
    assert maps.shape == (4, 13, 13, 256)
    near, far = (np.linalg.norm(embedding[0] - embedding[k]) for k in (1, 2))
    assert near < far
