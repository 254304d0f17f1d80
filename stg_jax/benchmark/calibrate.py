"""Make an untrained network caption like a trained one: with similar lengths and confidence.

The time of a search depends on both: it runs until no hypothesis can improve on the finished ones,
and confident models let the search prune earlier.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stg_jax.benchmark.synthetic import Batch
from stg_jax.data.vocab import EOS
from stg_jax.model.network import CaptioningModel

# Factor of the logits. It raises the mean log-probability of a caption's words from -3 to -0.8; a
# network trained on MSVD has -0.7 on the captions that it finds for new clips.
_SHARPNESS = 1.7
_CAPTIONS = 8  # random captions of each clip, to fit the vector of EOS on
# In words; captions come out about four words longer. Models vary in length less than people do.
_SHORTEST, _LONGEST = 2, 6
_RIDGE = 1.0
_SLOPE, _MOST = 5.0, 60.0  # of the logit of EOS; the logits of words reach about 13

PyTree = Any


def like_trained(params: PyTree, model: CaptioningModel, features: Batch) -> PyTree:
    """Change parameters so that the deployed branch captions these clips like a trained network."""
    branch = model.config.decoder()
    name, layer = f'decoders_{branch}', f'decoder_{model.config.decoder_layers - 1}'
    params = params | {name: _sharpened(params[name], layer)}
    eos_D = _eos_vector(params, model, branch, features)
    embedding_VD = jnp.asarray(params[name]['embed']['embedding']).at[EOS].set(eos_D)
    return params | {name: params[name] | {'embed': {'embedding': embedding_VD}}}


def _sharpened(decoder, layer):
    """Multiply all logits by `_SHARPNESS`, through the scale of the last layer norm."""
    # The logits are products of the normalised state with the tied embedding, so its scale is
    # theirs.
    norm = decoder[layer]['norms_2']
    sharp = norm | {'scale': norm['scale'] * _SHARPNESS}
    return decoder | {layer: decoder[layer] | {'norms_2': sharp}}


def _eos_vector(params, model, branch, features):
    """Fit the embedding (D,) of EOS, so that captions end after various numbers of words.

    For each clip a length is drawn; ridge regression makes the product of the embedding with the
    decoder state grow from that position on.
    """
    num_clips = len(features['appearance'])
    rng, L = np.random.default_rng(0), model.max_words + 1
    length_B = rng.integers(_SHORTEST, _LONGEST + 1, num_clips)
    token_BKL = rng.integers(4, model.vocab_size, (num_clips, _CAPTIONS, L), np.int32)
    states = functools.partial(model.apply, method='states')
    hidden_MD = jax.jit(
        lambda params: states({'params': params}, features, token_BKL, False)[branch].hidden_MD
    )(params)
    wanted_BL = np.minimum(_SLOPE * (np.arange(L) - length_B[:, None]), _MOST)
    wanted_BKL = np.broadcast_to(wanted_BL[:, None], token_BKL.shape)
    # The embedding of EOS is also an input, but only after the caption has ended. Changing it
    # therefore does not change the states it was fitted on.
    x_PD = np.asarray(hidden_MD, np.float64)
    # Normal equations in float64: D is small, and the states are nearly collinear.
    square_DD = x_PD.T @ x_PD + _RIDGE * np.eye(model.config.width)
    return np.linalg.solve(square_DD, x_PD.T @ wanted_BKL.reshape(-1))
