"""The shipped configs: they build at their full size, and a step of them runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import ablations, common, msrvtt, msvd, paper, toy, toy_best
from stg_jax.config import parse_config
from stg_jax.data.manifest import Manifest
from stg_jax.data.vocab import BOS, EOS, PAD, Vocabulary
from stg_jax.errors import UserError
from stg_jax.extract.toy_pixels import cells
from stg_jax.extract.toy_pixels.extractor import PixelExtractor
from stg_jax.parallel.mapped import pmapped
from stg_jax.parallel.sharding import data_mesh, replicate, shard_batch
from stg_jax.run.build import build_model, feature_shapes, init_params, param_shapes
from stg_jax.train.optim import make_optimizer
from stg_jax.train.step import init_state, make_train_step

MSVD_WORDS, MSRVTT_WORDS = 9462, 10547


def network(config, num_words):
    data = config.data
    manifest = Manifest(
        data_set='none',
        frames=data.frames,
        objects=data.objects,
        widths={kind: getattr(data, f'{kind}_dim') for kind in ('appearance', 'motion', 'object')},
        scale={'appearance': 1.0, 'motion': 1.0, 'object': 1.0},
        extractor={},
        splits={},
        missing={},
        sources={},
    )
    vocab = Vocabulary.build([' '.join(f'w{i}' for i in range(num_words))], 1)
    return build_model(config, manifest, vocab)


def random_batch(config, num_clips):
    rng = np.random.default_rng(0)
    batch = {
        key: rng.normal(size=(num_clips, *x.shape)).astype(x.dtype)
        for key, x in feature_shapes(config.data).items()
    }
    batch['box'] = np.sort(rng.uniform(size=(*batch['box'].shape[:-1], 2, 2)), axis=-2)
    batch['box'] = batch['box'].reshape(*batch['box'].shape[:-2], 4).astype(np.float32)
    batch['object_mask'] = np.ones(batch['object_mask'].shape, bool)
    token_BKL = np.full(
        (num_clips, config.data.captions_per_clip, config.data.max_words + 2), PAD, np.int32
    )
    token_BKL[..., :7] = [BOS, 5, 6, 7, 8, 9, EOS]
    return batch | {'tokens': token_BKL}


@pytest.mark.parametrize(('config', 'words'), [(msvd, MSVD_WORDS), (msrvtt, MSRVTT_WORDS)])
def test_the_full_size_network_has_as_many_weights_as_its_words_ask_for(config, words):
    config = parse_config(config.get_config())
    shapes = param_shapes(network(config, words), config.data)
    num_params = sum(x.size for x in jax.tree.leaves(shapes))
    # 20,080,000 weights besides two tied embeddings of 512 per word, as model.md counts them.
    assert num_params == pytest.approx(35.2e6 + 2 * 512 * (words + 4 - 10_000), rel=1e-3)


@pytest.mark.slow
def test_a_full_size_step_runs_and_lowers_the_loss_of_its_batch():
    config = parse_config(msvd.get_config()).changed(optim__warmup=0.0)
    model = network(config, MSVD_WORDS)
    params = init_params(model, config.data, 0)
    optimizer = make_optimizer(config, 100)
    mesh = data_mesh()
    step = pmapped(make_train_step(model, config.loss, optimizer, seed=0, accumulate=1), mesh)
    state = replicate(init_state(params, optimizer), mesh)
    batch = shard_batch(random_batch(config, 2), mesh)
    losses = []
    for _ in range(3):
        state, metrics = step(state, batch)
        losses.append(float(metrics['loss']))
    assert losses[-1] < losses[0]
    assert int(state.step) == 3
    assert bool(jnp.all(state.finite))


@pytest.mark.parametrize('name', ablations.ABLATIONS)
def test_every_ablation_builds_and_differs_from_the_full_model_by_its_row(name):
    config = parse_config(ablations.get_config(name))
    assert param_shapes(network(config, 100), config.data)
    full = parse_config(msvd.get_config()).flat()
    changed = {key: value for key, value in config.flat().items() if value != full[key]}
    assert changed == ablations.ABLATIONS[name]


def test_an_unknown_ablation_is_refused():
    with pytest.raises(UserError, match="no 'spatail': it has scene, concat"):
        ablations.get_config('spatail')


def test_the_toy_config_fits_the_toy_extractor():
    data = toy.get_config().data
    assert {kind: data[f'{kind}_dim'] for kind in PixelExtractor.widths} == PixelExtractor.widths
    assert (data.grid_cells, data.grid_dim) == (cells.SIDE**2, cells.WIDTH)


def test_an_unknown_key_is_refused():
    with pytest.raises(AttributeError):
        common.get_config().model.widht = 3


def test_the_config_of_the_paper_has_its_objective_and_its_inputs():
    config = parse_config(paper.get_config())
    assert (config.model.object_memory, config.model.scene_tokens) == ('mean', 'frames')
    assert (config.loss.direction, config.loss.detach_teacher) == ('student', False)
    assert (config.loss.kd_weight, config.loss.scene_weight) == (4.0, 1.0)
    assert parse_config(ablations.get_config('full')) == config


@pytest.mark.parametrize('module', [toy, toy_best])
def test_toy_configs_build_networks_that_read_cells_and_nodes(module):
    config = parse_config(module.get_config())
    model = network(config, 80)
    shapes = param_shapes(model, config.data)
    assert {'grid_encoder', 'object_encoder'} <= shapes.keys()
    batch = {
        key: jnp.zeros((1, *x.shape), x.dtype) for key, x in feature_shapes(config.data).items()
    }
    scene = jax.eval_shape(
        lambda params: model.apply({'params': params}, batch, 'scene', method='sequence').x_BSD,
        shapes,
    )
    assert scene.shape == (1, 5 * 9 + 10, 128)  # 3 x 3 tokens of pairs of frames, and the frames
