"""A small network with random parameters, and batches for it, that the tests share."""

import functools

import jax
import numpy as np

from configs import common
from stg_jax.config import LossConfig, ModelConfig
from stg_jax.data.vocab import BOS, EOS, PAD
from stg_jax.decode.captioner import stack_clips
from stg_jax.model.losses import Words, feature_terms, word_terms
from stg_jax.model.network import CaptioningModel
from tests.fakes.fake_data import OBJECTS, fake_clips, with_grid

VOCAB_SIZE, MAX_WORDS = 13, 5


def small_model(*, max_words=MAX_WORDS, vocab_size=VOCAB_SIZE, scale=(1.0, 0.5, 2.0), **changes):
    """Return the default network, a few units wide and without dropout."""
    sizes = {'width': 8, 'heads': 2, 'feedforward': 12, 'dropout': 0.0}
    layers = {'encoder_layers': 1, 'decoder_layers': 1, 'graph_layers': 1}
    config = ModelConfig(**{**common.get_config().model, **sizes, **layers, **changes})
    return CaptioningModel(config, max_words, vocab_size, scale)


def loss_spec(**changes):
    """Return the default loss."""
    config = common.get_config()
    return LossConfig(**{**config.loss, **config.kd, **changes})


def terms_of_logits(outputs, target_BKL, real_BKL, has_object_B, spec):
    """Return the loss terms of outputs of the network, from all their logits at once."""
    words = Words.of(target_BKL, real_BKL, has_object_B)
    logits = {name: output.logits_BKLV for name, output in outputs.items()}
    feature = {name: output.feature_BD for name, output in outputs.items()}
    return word_terms(logits, words, spec) | feature_terms(feature, words, spec)


def fake_batch(num_clips=3, num_captions=2, *, seed=0):
    """Return features and tokens; the second clip has no objects, the last frame of none has."""
    rng = np.random.default_rng(seed)
    token_BKL = np.stack(
        [[fake_caption(rng) for _ in range(num_captions)] for _ in range(num_clips)]
    )
    clips = list(map(with_grid, fake_clips(num_clips, seed=seed)))
    return stack_clips(clips, OBJECTS) | {'tokens': token_BKL}


def fake_caption(rng):
    """Return the tokens of 1 to MAX_WORDS random words."""
    token_L = np.full(MAX_WORDS + 2, PAD, np.int32)
    num_words = rng.integers(1, MAX_WORDS + 1)
    token_L[0], token_L[num_words + 1] = BOS, EOS
    token_L[1 : num_words + 1] = rng.integers(4, VOCAB_SIZE, num_words)
    return token_L


def random_params(module, *args, seed=0, gain=1.0, **options):
    """Draw parameters for a module in NumPy, biases and scales too, so that none is neutral.

    Matrices keep the size of what they multiply, times `gain`.
    """
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *args, **options)['params'])
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        value = rng.normal(size=leaf.shape)
        name = path[-1].key
        if name == 'kernel':
            fan_in = leaf.shape[0] if path[-2].key != 'out' else np.prod(leaf.shape[:2])
            value *= gain / np.sqrt(fan_in)
        else:
            value = 0.2 * value + (name == 'scale')
        return value.astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


@functools.cache
def small_network(**changes):
    """Return a small model and its parameters."""
    model = small_model(**changes)
    batch = fake_batch(1, 1)
    return model, random_params(model, batch, batch['tokens'][..., :-1], train=False)


def talkative_network(**changes):
    """Return a network whose parameters are so large that clips get different captions."""
    model = small_model(width=16, **changes)
    batch = fake_batch(1, 1)
    return model, random_params(model, batch, batch['tokens'][..., :-1], False, gain=2.0)


@functools.cache
def _forward_fn(**changes):
    model, params = small_network(**changes)

    def forward(batch, token_BKL):
        outputs = model.apply({'params': params}, batch, token_BKL, False)
        return {name: output.logits_BKLV for name, output in outputs.items()}

    return jax.jit(forward)


def logits_of(batch, **changes):
    """Return what `small_network(**changes)` says of a batch, by decoder name."""
    return _forward_fn(**changes)(batch, batch['tokens'][..., :-1])


def assert_same_logits(found, expected, atol=1e-5):
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=atol, err_msg=name)
