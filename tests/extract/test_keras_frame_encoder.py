"""Image models of Keras Hub against the same models called by hand."""

import jax
import numpy as np
import pytest

from stg_jax.extract.keras.frame_encoder import KerasFrameEncoder
from stg_jax.extract.keras.preset import import_keras_hub
from tests.fakes import fake_presets

FAMILIES = ['resnet', 'dinov2', 'dinov3', 'clip', 'siglip']
SIDE, GRID = fake_presets.SIDE, 4
RNG = np.random.default_rng(0)
FRAMES = [RNG.integers(0, 256, (SIDE, SIDE, 3), np.uint8) for _ in range(3)]
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.fixture(scope='module')
def presets(tmp_path_factory):
    """Return a function from a family's name to the folder of its preset, written once."""
    folders = {}

    def preset(name):
        if name not in folders:
            folder = tmp_path_factory.mktemp(name) / 'preset'
            folders[name] = str(getattr(fake_presets, f'tiny_{name}')(folder))
        return folders[name]

    return preset


@pytest.fixture(scope='module')
def encoders(presets):
    """Return a function from a family's name to its encoder in float32, batches of two."""
    made = {}

    def encoder(name):
        if name not in made:
            made[name] = KerasFrameEncoder(presets(name), batch_size=2, dtype='float32')
        return made[name]

    return encoder


def by_hand(name, preset):
    """Return embeddings and maps of FRAMES, from the library's model without any of our code."""
    backbone = import_keras_hub().models.Backbone.from_preset(preset)

    @jax.jit
    def describe(pixels):
        if name == 'resnet':
            maps = backbone(pixels)
            return maps.mean(axis=(1, 2)), maps
        if name == 'clip':
            tokens = backbone.vision_encoder({'images': pixels})
            return backbone.get_vision_embeddings(pixels), to_map(tokens[:, 1:])
        if name == 'siglip':
            encoder = backbone.vision_encoder
            tokens = encoder.embedding(pixels)
            for layer in encoder.encoder_layers:
                tokens = layer(tokens)
            tokens = encoder.post_layer_norm(tokens)
            return backbone.get_vision_embeddings(pixels), to_map(tokens)
        tokens = backbone({backbone.inputs[0].name: pixels})
        return tokens[:, 0], to_map(tokens[:, 3:])  # a class token and two registers

    return describe(((np.stack(FRAMES) / 255 - MEAN) / STD).astype(np.float32))


def to_map(tokens):
    return tokens.reshape(len(tokens), GRID, GRID, -1)


@pytest.mark.parametrize('name', FAMILIES)
def test_embeddings_and_maps_are_those_of_the_model_itself(name, presets, encoders):
    encoder = encoders(name)
    embeddings, maps = encoder.encode(FRAMES)
    wanted_embeddings, wanted_maps = by_hand(name, presets(name))
    np.testing.assert_allclose(embeddings, wanted_embeddings, atol=2e-4)
    np.testing.assert_allclose(maps, wanted_maps, atol=2e-4)
    assert embeddings.dtype == maps.dtype == np.float32
    assert (embeddings.shape[1], maps.shape[3]) == (encoder.width, encoder.map_width)


@pytest.mark.parametrize('name', FAMILIES)
@pytest.mark.parametrize(('row', 'column'), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_a_quarter_of_the_frame_changes_its_own_quarter_of_the_map_most(
    name, row, column, encoders
):
    # Neither square nor of the model's size: frames are stretched.
    before, after = RNG.integers(0, 256, (2, 8, 2 * SIDE, 3 * SIDE, 3), np.uint8)
    row_of, column_of = np.mgrid[: 2 * SIDE, : 3 * SIDE]
    outside = (row_of // SIDE != row) | (column_of // (3 * SIDE // 2) != column)
    after[:, outside] = before[:, outside]
    (_, maps_before), (_, maps_after) = map(encoders(name).encode, (before, after))
    change = np.abs(maps_after - maps_before).sum(axis=(0, 3))
    quarters = change.reshape(2, GRID // 2, 2, GRID // 2).sum(axis=(1, 3))
    assert np.unravel_index(quarters.argmax(), quarters.shape) == (row, column)


@pytest.mark.parametrize('name', ['resnet', 'clip'])
def test_a_frame_does_not_depend_on_the_others(name, encoders):
    encoder = encoders(name)
    together = encoder.encode(FRAMES)
    for k, frame in enumerate(FRAMES):
        for whole, alone in zip(together, encoder.encode([frame]), strict=True):
            # Some processors add in another order at other places of a batch.
            np.testing.assert_allclose(whole[k], alone[0], rtol=1e-5, atol=1e-5)


def test_frames_of_all_sizes_and_numbers_run_through_one_program(presets, caplog):
    with jax.log_compiles():
        encoder = KerasFrameEncoder(presets('dinov2'), batch_size=2, dtype='float32')
        for sizes in ([(20, 30)], [(32, 32), (64, 48), (7, 9)], [(32, 32)] * 4):
            encoder.encode([np.zeros((*size, 3), np.uint8) for size in sizes])
    compiled = [r.getMessage() for r in caplog.records if r.getMessage().startswith('Compiling')]
    assert sum('program' in message for message in compiled) == 1


@pytest.mark.parametrize('name', ['resnet', 'clip', 'siglip'])
def test_bfloat16_is_used_and_close_to_float32(name, presets, encoders):
    exact = encoders(name).encode(FRAMES)
    short = KerasFrameEncoder(presets(name), batch_size=2, dtype='bfloat16').encode(FRAMES)
    for wanted, found in zip(exact, short, strict=True):
        error = np.abs(found - wanted).mean() / np.abs(wanted).mean()
        # bfloat16 has 8 bits; a model that ignored it in its inner models would be exact.
        assert 2e-4 < error < 3e-2
