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
from stg_jax.model.captioner import CaptioningModel

# Of the logits: a word of a caption then has a log-probability of -0.8 instead of -3. A network
# trained on MSVD clips has -0.7 on the captions that it finds for others.
_SHARPNESS = 1.7
_CAPTIONS = 8  # random ones of each clip, to learn from
# Words, of which about four more come out. Captioners vary their lengths less than people do.
_SHORTEST, _LONGEST = 2, 6
_RIDGE = 1.0
_SLOPE, _MOST = 5.0, 60.0  # of the logit of EOS; those of words reach about 25

PyTree = Any


def like_trained(params: PyTree, model: CaptioningModel, features: Batch) -> PyTree:
    """Return parameters whose deployed branch captions these clips like a trained network."""
    branch = model.spec.decoder()
    name = f'decoders_{branch}'
    return params | {name: _with_endings(_sharpened(params, model, name), model, branch, features)}


def _sharpened(params, model, name):
    """Multiply the logits of words, by the scale of the norm before them."""
    layer = f'decoder_{model.spec.decoder_layers - 1}'
    norms = params[name][layer]['norms_2']
    sharp = norms | {'scale': norms['scale'] * _SHARPNESS}
    return params | {name: params[name] | {layer: params[name][layer] | {'norms_2': sharp}}}


def _with_endings(params, model, branch, features):
    """Return the decoder's parameters, so that captions of clips end after various numbers.

    Only the vector that scores EOS changes: it is fitted so that its product with a state is
    large from a position on that is drawn for each clip.
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
    vector_D = np.linalg.solve(square_DD, x_PD.T @ wanted_BKL.reshape(-1))
    decoder = params[f'decoders_{branch}']
    embedding_VD = jnp.asarray(decoder['embed']['embedding']).at[EOS].set(vector_D)
    return decoder | {'embed': {'embedding': embedding_VD}}
