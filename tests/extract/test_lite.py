"""EfficientNet-Lite: the reader of its weights, the network, and the features of the original."""

import pickle
import struct

import h5py
import jax
import numpy as np
import pytest

from stg_jax.errors import UserError
from stg_jax.extract.base import ModelOptions
from stg_jax.extract.lite import encoder as lite
from stg_jax.extract.lite.network import (
    DepthwiseConv,
    EfficientNetLite,
    Stage,
    params_of,
    scaled_stages,
)
from stg_jax.extract.lite.torch_file import read_tensors
from stg_jax.extract.models import build_frame_encoder
from stg_jax.extract.roi_align import pool_to_cells
from stg_jax.extract.video.frames import read_frames
from tests.fakes.real_data import real_data

MAGIC, OPTIONS = 0x1950A86A20F9469CFC6C, ModelOptions(batch_size=4, dtype='float32', min_score=0.5)
needs_weights = pytest.mark.skipif(
    not lite.is_installed('lite0'), reason="the extra 'lite' is not installed"
)


def opcodes(state, storages, *, change=lambda text: text):
    """Assemble a file by hand: tensors (name, key, shape, strides), storages (key, array)."""

    def text(value):
        return b'X' + struct.pack('<I', len(value)) + value.encode()

    def number(value):
        return b'J' + struct.pack('<i', value)

    def numbers(values):
        return b'(' + b''.join(map(number, values)) + b't'

    body = b'\x80\x02ccollections\nOrderedDict\n)R('
    for name, key, shape, strides in state:
        array = dict(storages)[key]
        kind = b'Float' if array.dtype.kind == 'f' else b'Long'
        storage = b'(' + text('storage') + b'ctorch\n' + kind + b'Storage\n' + text(key)
        storage += text('cpu') + number(array.size) + b'NtQ'
        body += text(name) + b'ctorch._utils\n_rebuild_tensor_v2\n(' + storage + number(0)
        body += numbers(shape) + numbers(strides) + b'\x89ccollections\nOrderedDict\n)RtR'
    body += b'u.'
    keys = b'\x80\x02](' + b''.join(text(key) for key, _ in storages) + b'e.'
    head = b''.join(pickle.dumps(value, 2) for value in (MAGIC, 1001, {'little_endian': True}))
    data = b''.join(struct.pack('<q', array.size) + array.tobytes() for _, array in storages)
    return head + change(body) + keys + data


A = np.arange(6, dtype=np.float32)
STATE = [('a.weight', '1', (2, 3), (3, 1)), ('a.turned', '1', (3, 2), (1, 3)), ('n', '2', (), ())]
STORAGES = [('1', A), ('2', np.array([7]))]


def test_tensors_are_read_without_pytorch(tmp_path):
    path = tmp_path / 'x.pth'
    path.write_bytes(opcodes(STATE, STORAGES))
    found = read_tensors(path)
    assert list(found) == ['a.weight', 'a.turned', 'n']
    np.testing.assert_array_equal(found['a.weight'], A.reshape(2, 3))
    np.testing.assert_array_equal(found['a.turned'], A.reshape(2, 3).T)
    assert found['n'] == 7 and found['n'].dtype == np.int64


HOSTILE = {
    'a call': (
        lambda body: body.replace(b'ccollections\nOrderedDict', b'cos\nsystem', 1),
        'calls os',
    ),
    'a class': (lambda body: body.replace(b'torch\nLong', b'torch\nHalf'), 'torch HalfStorage'),
    'a new object': (lambda body: body[:-1] + b'\x81.', 'opcode NEWOBJ'),
    'an import by name': (lambda body: body[:-1] + b'\x93.', 'opcode STACK_GLOBAL'),
    'other values': (
        lambda body: b'\x80\x02}(X\x01\x00\x00\x00aK\x01u.',
        'no dictionary of tensors',
    ),
    'the end': (lambda body: body[:40], 'not a readable PyTorch file'),
}


@pytest.mark.parametrize('name', HOSTILE)
def test_whatever_is_no_tensor_is_refused_and_never_called(tmp_path, name):
    change, sentence = HOSTILE[name]
    path = tmp_path / 'x.pth'
    path.write_bytes(opcodes(STATE, STORAGES, change=change))
    with pytest.raises(UserError, match=sentence) as error:
        read_tensors(path)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(('shape', 'strides'), [((2, 4), (4, 1)), ((2, 3), (-3, 1)), ((7,), (1,))])
def test_a_tensor_beyond_its_storage_is_refused(tmp_path, shape, strides):
    path = tmp_path / 'x.pth'
    path.write_bytes(opcodes([('a', '1', shape, strides)], STORAGES[:1]))
    with pytest.raises(UserError, match='reaches beyond its storage of 6'):
        read_tensors(path)


def test_other_files_are_one_sentence(tmp_path):
    path = tmp_path / 'x.pth'
    for content in (b'', b'hello', pickle.dumps({'a': 1}), opcodes(STATE, STORAGES)[:-20]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r'x\.pth'):
            read_tensors(path)
    with pytest.raises(UserError, match='no_file'):
        read_tensors(tmp_path / 'no_file')


@pytest.mark.parametrize(('side', 'kernel', 'stride'), [(8, 3, 1), (8, 3, 2), (9, 5, 2), (7, 5, 1)])
def test_a_depthwise_convolution_is_that_of_xla(side, kernel, stride):
    rng = np.random.default_rng(side)
    x_BhwC = rng.normal(size=(2, side, side, 3)).astype(np.float32)
    weight = rng.normal(size=(kernel, kernel, 3)).astype(np.float32)
    params = {'params': {'kernel': weight, 'bias': np.float32([1, 2, 3])}}
    found = DepthwiseConv(kernel, stride).apply(params, x_BhwC)
    expected = jax.lax.conv_general_dilated(
        x_BhwC,
        weight[:, :, None],
        (stride, stride),
        'SAME',
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        feature_group_count=3,
    )
    np.testing.assert_allclose(found, expected + np.float32([1, 2, 3]), atol=1e-5)


def test_normalization_is_folded_into_the_convolution_before_it():
    stages = (Stage(1, 3, 1, 1, 8), Stage(2, 3, 2, 6, 8))
    rng = np.random.default_rng(0)
    shapes = {'_conv_stem': (32, 3, 3, 3), '_conv_head': (1280, 8, 1, 1)}
    norms = {'_bn0': 32, '_bn1': 1280}
    for k, (width_in, expansion) in enumerate([(32, 1), (8, 6), (8, 6)]):
        wide = width_in * expansion
        shapes[f'_blocks.{k}._depthwise_conv'] = (wide, 1, 3, 3)
        shapes[f'_blocks.{k}._project_conv'] = (8, wide, 1, 1)
        norms |= {f'_blocks.{k}._bn1': wide, f'_blocks.{k}._bn2': 8}
        if expansion > 1:
            shapes[f'_blocks.{k}._expand_conv'] = (wide, width_in, 1, 1)
            norms[f'_blocks.{k}._bn0'] = wide
    tensors = {f'{key}.weight': rng.normal(size=shape) / 9 for key, shape in shapes.items()}
    for key, width in norms.items():
        names = ('weight', 'bias', 'running_mean', 'running_var')
        tensors |= {f'{key}.{name}': rng.uniform(0.5, 2, width) for name in names}
    tensors = {key: value.astype(np.float32) for key, value in tensors.items()}
    picture = rng.normal(size=(1, 16, 16, 3)).astype(np.float32)
    model = EfficientNetLite(stages)
    embedding, map_BhwC = model.apply({'params': params_of(tensors, stages)}, picture)
    expected = by_hand(tensors, picture)
    np.testing.assert_allclose(map_BhwC, expected[1], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(embedding, expected[0], rtol=1e-3, atol=1e-3)


def by_hand(tensors, x):
    """Compute the two stages above layer by layer, normalization included."""

    def layer(x, conv, norm, stride=1, act=True):
        weight = tensors[f'{conv}.weight'].transpose(2, 3, 1, 0)
        x = jax.lax.conv_general_dilated(
            x, weight, (stride, stride), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
            feature_group_count=x.shape[-1] // weight.shape[2],
        )  # fmt: skip
        scale, bias, mean, variance = (
            tensors[f'{norm}.{n}'] for n in ('weight', 'bias', 'running_mean', 'running_var')
        )
        x = (x - mean) / np.sqrt(variance + 1e-3) * scale + bias
        return np.clip(x, 0, 6) if act else x

    x = layer(x, '_conv_stem', '_bn0', 2)
    for k, (expands, stride, adds) in enumerate([(0, 1, 0), (1, 2, 0), (1, 1, 1)]):
        block, y = f'_blocks.{k}.', x
        y = layer(y, f'{block}_expand_conv', f'{block}_bn0') if expands else y
        y = layer(y, f'{block}_depthwise_conv', f'{block}_bn1', stride)
        y = layer(y, f'{block}_project_conv', f'{block}_bn2', act=False)
        x = x + y if adds else y
    return layer(x, '_conv_head', '_bn1').mean(axis=(1, 2)), x


def test_lite2_is_wider_and_deeper_between_the_first_and_the_last_stage():
    stages = scaled_stages(1.1, 1.2)
    assert [stage.width for stage in stages] == [16, 24, 48, 88, 120, 208, 352]
    assert [stage.blocks for stage in stages] == [1, 3, 3, 4, 4, 5, 1]


def test_weights_that_are_missing_or_others_are_one_sentence(tmp_path, monkeypatch):
    preset = lite.PRESETS['lite0']._replace(package='no_such_package')
    monkeypatch.setitem(lite.PRESETS, 'lite0', preset)
    with pytest.raises(UserError, match=r"needs the package no-such-package.*'\.\[lite\]'"):
        build_frame_encoder('lite0', OPTIONS)
    (tmp_path / 'fake_weights' / 'models').mkdir(parents=True)
    (tmp_path / 'fake_weights' / '__init__.py').write_text('raise SystemExit("imported")')
    (tmp_path / 'fake_weights' / 'models' / preset.file).write_bytes(b'others')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(lite.PRESETS, 'lite0', preset._replace(package='fake_weights'))
    with pytest.raises(UserError, match='is not the file that lite0 was published with'):
        build_frame_encoder('lite0', OPTIONS)


@needs_weights
def test_features_are_those_of_the_original_on_real_videos():
    features = real_data('msvd', 'features')
    encoder = build_frame_encoder('lite0', OPTIONS)
    files = [h5py.File(features / f'{kind}_lite0.hdf5') for kind in ('appearance', 'grid')]
    # Enlarged by another method in the reference, hence not among these: WZTGqvbqOFE_28_34.
    for clip in ('3I9tSDU-OSk_17_22', '-_hbPLsZvvo_323_328'):
        frames = list(read_frames(real_data('videos', f'{clip}.avi'), 10).frames)[:4]
        embedding, maps = encoder.encode(frames)
        expected, grid = (np.float32(file[clip][:4]) for file in files)
        np.testing.assert_allclose(embedding, expected, atol=5e-3)
        np.testing.assert_allclose(pool_to_cells(maps, 4), grid, atol=2e-2)


@needs_weights
def test_lite2_sees_a_parrot():
    """The classifier is not part of the encoder; its weights judge the embedding."""
    encoder = build_frame_encoder('lite2', OPTIONS)
    frames = list(read_frames(real_data('videos', 'imageio_cockatoo.mp4'), 4).frames)
    embedding, maps = encoder.encode(frames)
    assert maps.shape == (4, 9, 9, encoder.map_width) and embedding.shape == (4, encoder.width)
    tensors = read_tensors(lite.weights_path('lite2'))
    logits = embedding @ tensors['_fc.weight'].T + tensors['_fc.bias']
    best = np.argsort(-logits, axis=1)[:, :5]
    assert ((best >= 87) & (best <= 90)).any(axis=1).all()  # ImageNet's parrots
