"""Presets that are there, and everything that users name instead."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stg_jax.errors import UserError
from stg_jax.extract.keras.frame_encoder import KerasFrameEncoder
from stg_jax.extract.keras.preset import import_keras_hub, load_preset, picture_format
from tests.fakes import fake_presets

ROOT = Path(__file__).parents[2]
FREE = (None, None, 3)


@pytest.fixture(scope='module')
def resnet(tmp_path_factory):
    return fake_presets.tiny_resnet(tmp_path_factory.mktemp('resnet') / 'preset')


@pytest.fixture
def copy(resnet, tmp_path):
    return Path(shutil.copytree(resnet, tmp_path / 'copy'))


def test_pictures_are_normalised_as_the_preset_says(resnet):
    pixels = np.array([[[0, 128, 255]]], np.uint8)
    wanted = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    pictures = picture_format(str(resnet), FREE)
    np.testing.assert_allclose(pictures.normalise(pixels), wanted, atol=1e-5)
    assert pictures.size == (fake_presets.SIDE, fake_presets.SIDE)


def test_a_model_built_for_one_size_gets_that_size(resnet):
    assert picture_format(str(resnet), (48, 64, 3)).size == (48, 64)


def test_only_presets_that_keep_the_aspect_are_padded(tmp_path):
    for crop, pad, fit in ((True, False, 'stretch'), (False, True, 'centre')):
        folder = fake_presets.tiny_resnet(
            tmp_path / fit, crop_to_aspect_ratio=crop, pad_to_aspect_ratio=pad
        )
        assert picture_format(str(folder), FREE).fit == fit


def test_without_a_converter_pixels_are_fractions(copy):
    (copy / 'image_converter.json').unlink()
    pictures = picture_format(str(copy), FREE)
    np.testing.assert_allclose(pictures.normalise(np.array([0, 51, 255], np.uint8)), [0, 0.2, 1])
    assert pictures.size == (224, 224) and pictures.fit == 'stretch'


def refusal(preset, kind='Backbone'):
    """Return the sentence with which a preset is refused."""
    with pytest.raises(UserError) as error:
        load_preset(kind, str(preset))
    assert '\n' not in str(error.value)
    return str(error.value)


def test_a_mistyped_name_is_told_with_the_nearest():
    assert 'did you mean resnet_50_imagenet' in refusal('resnet_50_imagnet')
    assert 'did you mean dfine_nano_coco' in refusal('dfine_nano_koko', 'ObjectDetector')
    assert "no preset '/nowhere/at/all'" in refusal('/nowhere/at/all')


def test_a_folder_without_a_preset(tmp_path):
    assert 'config.json is missing' in refusal(tmp_path)


def test_damaged_presets(copy):
    (copy / 'model.weights.h5').write_bytes(b'\x89HDF')
    assert f"'{copy}' cannot be loaded as Keras Hub Backbone" in refusal(copy)
    (copy / 'model.weights.h5').unlink()
    assert "doesn't exist" in refusal(copy)
    (copy / 'config.json').write_text('{')
    assert 'cannot be loaded' in refusal(copy)
    (copy / 'config.json').write_text('{"registered_name": "os>system", "class_name": "system"}')
    assert 'no class registered' in refusal(copy)


def test_a_preset_that_cannot_be_downloaded(monkeypatch):
    def refuse(*_):
        raise ConnectionError('no route to host')

    monkeypatch.setattr('kagglehub.model_download', refuse)
    sentence = refusal('resnet_50_imagenet')
    assert 'no route to host' in sentence and 'check the connection' in sentence


def test_a_text_model_describes_no_pictures(tmp_path):
    folder = fake_presets.tiny_bert(tmp_path / 'bert')
    with pytest.raises(UserError, match='BertBackbone, which turns no picture into a feature map'):
        KerasFrameEncoder(str(folder), batch_size=1, dtype='float32')


def test_a_video_model_describes_no_pictures(tmp_path):
    folder = fake_presets.tiny_video_prism(tmp_path / 'video')
    with pytest.raises(UserError, match='VideoPrismBackbone'):
        KerasFrameEncoder(str(folder), batch_size=1, dtype='float32')


def test_keras_hub_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, 'keras_hub', None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[extract\]'"):
        import_keras_hub()


def run(code, **environment):
    return subprocess.run(
        [sys.executable, '-c', code],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def test_a_fresh_process_runs_on_jax_without_a_word(resnet):
    code = (
        'import numpy, os, sys\n'
        'from stg_jax.extract.keras.frame_encoder import KerasFrameEncoder\n'
        "assert 'keras' not in sys.modules and 'tensorflow' not in sys.modules\n"
        'from stg_jax.data import tf\n'
        "assert 'keras' not in sys.modules and 'TF_USE_LEGACY_KERAS' not in os.environ\n"
        f'encoder = KerasFrameEncoder({str(resnet)!r}, batch_size=1, dtype="float32")\n'
        'import keras\n'
        'print(keras.config.backend(), encoder.encode([numpy.zeros((8, 8, 3), "uint8")])[0].shape)'
    )
    # Whatever the user has set for other work.
    process = run(code, KERAS_BACKEND='tensorflow')
    assert (process.stdout, process.stderr) == ('jax (1, 128)\n', '')


def test_keras_that_runs_on_something_else_already_is_refused(monkeypatch):
    import_keras_hub()
    import keras

    monkeypatch.setattr(keras.config, 'backend', lambda: 'tensorflow')
    with pytest.raises(UserError, match='Keras runs on tensorflow in this process'):
        import_keras_hub()
