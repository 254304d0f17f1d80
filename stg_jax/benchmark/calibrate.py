"""Make an untrained network write captions like a trained one: about as long, and about as sure.

How long a search takes depends on both: it goes on until no caption can become better, and drops
the sooner what cannot win the surer a network is of its words.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stg_jax.benchmark.synthetic import Batch
from stg_jax.data.vocab import EOS
from stg_jax.model.network import CaptioningModel

# Of the logits: a word of a caption then has a log-probability of -0.8 instead of -3. A network
# trained on MSVD clips has -0.7 on the captions that it finds for others.
_SHARPNESS = 1.7
_CAPTIONS = 8  # random ones of each clip, to learn from
# Words, of which about four more come out. Captioners vary their lengths less than people do.
_SHORTEST, _LONGEST = 2, 6
_RIDGE = 1.0
_SLOPE, _MOST = 5.0, 60.0  # of the logit of EOS; those of words reach about 13

PyTree = Any


def like_trained(params: PyTree, model: CaptioningModel, features: Batch) -> PyTree:
    """Return parameters whose deployed branch captions these clips like a trained network."""
    branch = model.spec.decoder()
    name, layer = f'decoders_{branch}', f'decoder_{model.spec.decoder_layers - 1}'
    params = params | {name: _sharpened(params[name], layer)}
    eos_D = _eos_vector(params, model, branch, features)
    embedding_VD = jnp.asarray(params[name]['embed']['embedding']).at[EOS].set(eos_D)
    return params | {name: params[name] | {'embed': {'embedding': embedding_VD}}}


def _sharpened(decoder, layer):
    """Multiply the logits of words, by the scale of the norm before them, in the last layer."""
    norm = decoder[layer]['norms_2']
    sharp = norm | {'scale': norm['scale'] * _SHARPNESS}
    return decoder | {layer: decoder[layer] | {'norms_2': sharp}}


def _eos_vector(params, model, branch, features):
    """Return the vector (D,) that scores EOS, so that captions end after various numbers of words.

    It is fitted so that its product with a state is large from a position on that is drawn for
    each clip.
    """
    num_clips = len(features['appearance'])
    rng, L = np.random.default_rng(0), model.spec.max_words + 1
    length_B = rng.integers(_SHORTEST, _LONGEST + 1, num_clips)
    token_BKL = rng.integers(4, model.spec.vocab_size, (num_clips, _CAPTIONS, L), np.int32)
    states = functools.partial(model.apply, method='states')
    hidden_BKLD = jax.jit(
        lambda params: states({'params': params}, features, token_BKL, False)[branch].hidden_MD
    )(params)
    wanted_BL = np.minimum(_SLOPE * (np.arange(L) - length_B[:, None]), _MOST)
    wanted_BKL = np.broadcast_to(wanted_BL[:, None], token_BKL.shape)
    x_PD = np.asarray(hidden_BKLD, np.float64).reshape(-1, model.spec.width)
    square_DD = x_PD.T @ x_PD + _RIDGE * np.eye(model.spec.width)
    return np.linalg.solve(square_DD, x_PD.T @ wanted_BKL.reshape(-1))
