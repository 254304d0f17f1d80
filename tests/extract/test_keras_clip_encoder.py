"""Video models of Keras Hub against the same models called by hand."""

import jax
import numpy as np
import pytest

from stg_jax.errors import UserError
from stg_jax.extract.keras.clip_encoder import KerasClipEncoder
from stg_jax.extract.keras.preset import import_keras_hub
from tests.fakes import fake_presets

SIDE, WINDOW = fake_presets.SIDE, fake_presets.WINDOW
RNG = np.random.default_rng(0)
WINDOWS = [RNG.integers(0, 256, (WINDOW + 1, SIDE, SIDE, 3), np.uint8) for _ in range(3)]


@pytest.fixture(scope='module', params=[0, 1], ids=['video', 'video and text'])
def preset(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp('video_prism') / 'preset'
    return str(fake_presets.tiny_video_prism(folder, text_layers=request.param))


@pytest.fixture(scope='module')
def encoder(preset):
    return KerasClipEncoder(preset, batch_size=2, dtype='float32')


def test_embeddings_are_those_of_the_model_itself(preset, encoder):
    backbone = import_keras_hub().models.Backbone.from_preset(preset)
    pixels = np.stack(WINDOWS)[:, :WINDOW].astype(np.float32) / 255
    wanted = np.asarray(jax.jit(backbone.get_vision_embeddings)(pixels))
    if wanted.ndim == 4:  # frames and patches of a preset without text
        wanted = wanted.mean(axis=(1, 2))
    embeddings = encoder.encode(WINDOWS)
    np.testing.assert_allclose(embeddings, wanted, atol=2e-4)
    assert embeddings.dtype == np.float32 and embeddings.shape[1] == encoder.width


def test_the_window_is_odd_and_holds_all_frames_of_the_model(encoder):
    assert encoder.context % 2 == 1 and encoder.context - WINDOW in (0, 1)


def test_a_window_does_not_depend_on_the_others_but_on_the_order_of_its_frames(encoder):
    together = encoder.encode(WINDOWS)
    for k, window in enumerate(WINDOWS):
        # Some processors add in another order at other places of a batch.
        alone = encoder.encode([window])[0]
        np.testing.assert_allclose(alone, together[k], rtol=1e-5, atol=1e-5)
    backwards = WINDOWS[0].copy()
    backwards[:WINDOW] = backwards[:WINDOW][::-1]
    assert np.abs(encoder.encode([backwards])[0] - together[0]).max() > 1e-3


def test_windows_may_have_different_sizes(encoder):
    large = WINDOWS[0].repeat(3, axis=1).repeat(2, axis=2)
    mixed = encoder.encode([large, WINDOWS[0]])
    np.testing.assert_allclose(mixed[0], mixed[1], atol=1e-5)


def test_bfloat16_is_used_and_close_to_float32(preset, encoder):
    exact = encoder.encode(WINDOWS)
    short = KerasClipEncoder(preset, batch_size=2, dtype='bfloat16').encode(WINDOWS)
    assert 2e-4 < np.abs(short - exact).mean() / np.abs(exact).mean() < 3e-2


def test_an_image_model_describes_no_motion(tmp_path):
    folder = fake_presets.tiny_resnet(tmp_path / 'resnet')
    with pytest.raises(UserError, match='ResNetBackbone, which describes no motion'):
        KerasClipEncoder(str(folder), batch_size=1, dtype='float32')
