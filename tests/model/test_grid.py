"""Grids of cells and nodes as memory: from the records to what the decoders read."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from configs import common
from stg_jax.config import parse_config
from stg_jax.data import records
from stg_jax.data.batches import open_clips, train_batches
from stg_jax.data.manifest import Manifest, check_manifest
from stg_jax.data.vocab import Vocabulary
from stg_jax.errors import UserError
from stg_jax.model.encoders import GridEncoder, pool_cells
from stg_jax.prepare.verify.verify import verify
from stg_jax.run.build import build_model_without_data, feature_shapes
from stg_jax.train.plan import fill_in_widths
from tests.fakes.fake_data import (
    CELL,
    CELLS,
    FRAMES,
    OBJECTS,
    fake_clips,
    fake_data_config,
    fake_data_folder,
    with_grid,
)
from tests.fakes.fake_network import (
    assert_same_logits,
    fake_batch,
    logits_of,
    random_params,
    small_network,
)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return fake_data_folder(tmp_path_factory.mktemp('grid'), grid=True)


def sequence_of(batch, branch, **changes):
    model, params = small_network(**changes)
    return model.apply({'params': params}, batch, branch, method='sequence')


def test_a_grid_is_stored_and_read_back(folder):
    for clip in records.read_clips(folder, 'train'):
        assert clip.grid.shape == (FRAMES, CELLS, CELL) and clip.grid.dtype == np.float16
    manifest = Manifest.load(folder)
    assert (manifest.cells, manifest.widths['grid']) == (CELLS, CELL)
    assert manifest.scale['grid'] == pytest.approx(1, abs=0.2)


def test_the_data_card_shows_the_grid(folder):
    card = verify(folder, None, min_count=1, max_words=20)
    assert f'grid       {CELLS} cells of {CELL} channels' in card.text()
    assert not card.problems


def test_a_manifest_without_cells_is_read(tmp_path):
    folder = fake_data_folder(tmp_path)
    path = folder / 'manifest.json'
    entries = json.loads(path.read_text())
    assert entries.pop('cells') == 0
    path.write_text(json.dumps(entries))
    assert Manifest.load(folder).cells == 0
    assert next(records.read_clips(folder, 'val')).grid is None


def test_clips_with_and_without_a_grid_do_not_mix(tmp_path):
    one, other = fake_clips(2)
    with pytest.raises(UserError, match='grid has shape'):
        records.write_data_folder(
            tmp_path / 'x', {'train': [with_grid(one), other]}, data_set='x', extractor={}
        )
    bad = dataclasses.replace(one, grid=np.full((FRAMES, CELLS, CELL), np.nan, np.float32))
    with pytest.raises(UserError, match='grid features hold NaN'):
        records.write_data_folder(tmp_path / 'x', {'train': [bad]}, data_set='x', extractor={})


@pytest.mark.parametrize('cache', ['none', 'host'])
def test_batches_hold_the_grid_where_the_config_asks_for_it(folder, cache):
    vocab = Vocabulary.build(['a red ball'], 1)
    for cells in (0, CELLS):
        config = fake_data_config(folder, cache=cache, grid_cells=cells, grid_dim=CELL)
        opened = open_clips(config, vocab, 'train')
        batch = next(train_batches(opened, clips_per_batch=2, seed=0, epoch=0))
        assert ('grid' in batch) == bool(cells)
    clips = {clip.id: clip.grid for clip in records.read_clips(folder, 'train')}
    np.testing.assert_array_equal(batch['grid'], np.stack([clips[i] for i in batch['id']]))


def test_a_config_that_asks_for_another_grid_is_told_the_flags(folder, tmp_path):
    config = fake_data_config(folder, grid_cells=4, grid_dim=CELL)
    with pytest.raises(UserError, match=f'--config.data.grid_cells={CELLS}'):
        check_manifest(Manifest.load(folder), config)
    with pytest.raises(UserError, match=r'grid_cells=0 --config\.data\.grid_dim=0'):
        check_manifest(Manifest.load(fake_data_folder(tmp_path)), config)


def test_widths_that_the_config_leaves_open_are_those_of_the_data_folder(folder):
    widths = Manifest.load(folder).widths
    given = parse_config(common.get_config()).changed(
        data__dir=str(folder), data__frames=FRAMES, data__appearance_dim=0, data__motion_dim=0
    )
    found = fill_in_widths(given.changed(model__scene_tokens='grid')).data
    assert (found.appearance_dim, found.motion_dim) == (widths['appearance'], widths['motion'])
    assert (found.grid_cells, found.grid_dim) == (CELLS, CELL)
    # What is stated stays, to be checked; a grid that no decoder reads stays out.
    assert found.object_dim == given.data.object_dim != widths['object']
    with pytest.raises(UserError, match=f'pass --config.data.object_dim={widths["object"]}'):
        check_manifest(Manifest.load(folder), dataclasses.replace(found, objects=OBJECTS))
    assert fill_in_widths(given).data.grid_cells == 0


def test_widths_are_needed_where_no_data_folder_is_read():
    config = parse_config(common.get_config()).changed(data__motion_dim=0)
    with pytest.raises(UserError, match='motion_dim is 0, as wide as in the data folder'):
        feature_shapes(config.data)


@pytest.mark.parametrize('cells', [0, 8])
def test_grid_tokens_need_a_square_number_of_cells(cells):
    config = parse_config(common.get_config()).changed(
        model__scene_tokens='grid', data__grid_cells=cells, data__grid_dim=CELL
    )
    with pytest.raises(UserError, match='square number of cells'):
        build_model_without_data(config, 10)
    build_model_without_data(config.changed(model__branches='object'), 10)


def test_a_grid_that_is_too_small_for_its_poolings_is_refused():
    config = parse_config(common.get_config()).changed(
        model__scene_tokens='grid', model__grid_poolings=3, data__grid_cells=49
    )
    with pytest.raises(UserError, match='7 x 7 cells can be halved 2 times'):
        build_model_without_data(config, 10)
    build_model_without_data(config.changed(model__grid_poolings=2), 10)


@pytest.mark.parametrize(('side', 'windows'), [(2, 1), (3, 1), (4, 2), (7, 3), (8, 4)])
def test_pooling_is_a_maximum_over_windows(side, windows):
    x_BTGD = np.random.default_rng(side).uniform(size=(2, 3, side**2, 4)).astype(np.float32)

    def plain(x_BTGD):
        x_BHWD = x_BTGD.reshape(6, side, side, 4)
        padding = [(0, 1 - side % 2)] * 2
        return nn.max_pool(x_BHWD, (3, 3), (2, 2), padding).reshape(2, 3, -1, 4)

    pooled = pool_cells(x_BTGD)
    assert pooled.shape[2] == windows**2
    np.testing.assert_array_equal(pooled, plain(x_BTGD))
    gradients = (
        jax.grad(lambda x, fn=fn: (fn(x) ** 2).sum())(x_BTGD) for fn in (pool_cells, plain)
    )
    np.testing.assert_allclose(*gradients, rtol=1e-6)


@pytest.mark.parametrize(('poolings', 'tokens'), [(0, 49), (1, 9), (2, 1)])
def test_each_pooling_halves_the_grid(poolings, tokens):
    encoder = GridEncoder(width=16, num_frames=1, num_poolings=poolings, dtype=jnp.float32)
    grid_BTGC = np.random.default_rng(0).normal(size=(30, 2, 49, 3)).astype(np.float32)
    params = random_params(encoder, grid_BTGC)
    token_BTPD = encoder.apply({'params': params}, grid_BTGC)
    assert token_BTPD.shape == (30, 2, tokens, 16)
    # Every cell is seen, if not in every frame: a maximum shows the strongest one.
    seen = jax.grad(lambda x: encoder.apply({'params': params}, x).sum())(grid_BTGC)
    assert np.any(seen, axis=(0, 1, 3)).all()


def test_sequences_have_the_positions_of_their_frames():
    batch = fake_batch()
    frames = np.eye(FRAMES, dtype=bool)
    # One token of 3 x 3 cells a frame, then the vectors of the frames.
    scene = sequence_of(batch, 'scene', scene_tokens='grid')
    np.testing.assert_array_equal(scene.layout.is_frame, np.concatenate([frames, frames]))
    nodes = sequence_of(batch, 'object', object_memory='nodes')
    np.testing.assert_array_equal(nodes.layout.is_frame, np.repeat(frames, OBJECTS, axis=0))
    np.testing.assert_array_equal(nodes.mask_BS, batch['object_mask'].reshape(len(scene.x_BSD), -1))
    joint = sequence_of(batch, 'joint', fusion='concat', object_memory='nodes')
    expected = np.concatenate([frames, nodes.layout.is_frame])
    np.testing.assert_array_equal(joint.layout.is_frame, expected)
    assert len(set(joint.layout.time)) == 2 * FRAMES


@pytest.mark.parametrize('span', [2, 3])
def test_a_token_may_join_frames(span):
    batch = fake_batch()
    scene = sequence_of(batch, 'scene', scene_tokens='grid', grid_frames=span, grid_poolings=0)
    num_groups = -(-FRAMES // span)
    assert scene.x_BSD.shape[1] == num_groups * CELLS + FRAMES
    is_frame = scene.layout.is_frame[: num_groups * CELLS]
    assert is_frame.any(0).all() and is_frame.sum(0).tolist() == [CELLS] * FRAMES
    # The first group of tokens changes with any of its frames and with no other.
    for frame in range(FRAMES):
        other = batch['grid'].copy()
        other[:, frame] += 1
        changed = sequence_of(
            batch | {'grid': other}, 'scene', scene_tokens='grid', grid_frames=span, grid_poolings=0
        )
        is_same = np.allclose(changed.x_BSD[:, :CELLS], scene.x_BSD[:, :CELLS])
        assert is_same == (frame >= span)


def test_features_for_distillation_are_means_of_frames_with_nodes_too():
    batch = fake_batch()
    mean, nodes = (
        sequence_of(batch, 'object', object_memory=memory).mean_BD for memory in ('mean', 'nodes')
    )
    np.testing.assert_allclose(nodes, mean, atol=1e-6)


def test_the_order_of_nodes_and_what_stands_in_absent_ones_do_not_matter():
    batch = fake_batch()
    expected = logits_of(batch, object_memory='nodes')
    order = np.random.default_rng(1).permuted(
        np.tile(np.arange(OBJECTS), (*batch['object_mask'].shape[:2], 1)), axis=-1
    )
    moved = {
        key: np.take_along_axis(
            batch[key], order if key == 'object_mask' else order[..., None], axis=2
        )
        for key in ('object', 'box', 'object_mask')
    }
    assert_same_logits(logits_of(batch | moved, object_memory='nodes'), expected)
    absent = ~batch['object_mask'][..., None]
    noise = {key: np.where(absent, 9, batch[key]) for key in ('object', 'box')}
    assert_same_logits(logits_of(batch | noise, object_memory='nodes'), expected)


def test_a_scene_decoder_with_tokens_reads_the_grid():
    batch = fake_batch()
    expected = logits_of(batch, scene_tokens='grid')['scene']
    other = batch | {'grid': batch['grid'][:, ::-1]}
    assert not np.allclose(logits_of(other, scene_tokens='grid')['scene'], expected)
    assert_same_logits(logits_of(other), logits_of(batch))
