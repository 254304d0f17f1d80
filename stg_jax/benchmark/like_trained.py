"""Make an untrained network end its captions where people end theirs."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stg_jax.benchmark.synthetic import Batch
from stg_jax.data.vocab import EOS
from stg_jax.model.captioner import CaptioningModel

_CAPTIONS = 8  # random ones of each clip, to learn from
# Words, of which about two more come out. Captioners vary their lengths less than people do.
_SHORTEST, _LONGEST = 3, 8
_RIDGE = 1.0
_SLOPE, _MOST = 5.0, 60.0  # of the logit of EOS; those of words reach about 15

PyTree = Any


def with_endings(params: PyTree, model: CaptioningModel, features: Batch) -> PyTree:
    """Return parameters whose deployed branch ends the captions of clips after various numbers.

    Only the vector that scores EOS changes: it is fitted so that its product with a state is
    large from a position on that is drawn for each clip.
    """
    branch = model.spec.decoder()
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
    embed = params[f'decoders_{branch}']['embed']
    ended = {'embedding': jnp.asarray(embed['embedding']).at[EOS].set(vector_D)}
    return params | {f'decoders_{branch}': params[f'decoders_{branch}'] | {'embed': ended}}
