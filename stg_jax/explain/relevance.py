"""How much each object speaks for each word: gradient times input of the object branch."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stg_jax.explain import forward as reading
from stg_jax.explain.forward import Batch
from stg_jax.model.network import CaptioningModel

PyTree = Any

PATH = (np.arange(8) + 0.5) / 8  # factors on the way from no object to all of them


def object_relevance(
    model: CaptioningModel,
    params: PyTree,
    batch: Batch,
    token_L: jax.Array,
    branch: str,
    factor_P: np.ndarray,
) -> jax.Array:
    """Return how much log-probability each object of one clip adds to each word, (L - 1, T, N).

    The derivative by a factor on a node is its gradient times its input. The graph does not move
    with it: cosines do not depend on lengths, and overlaps not on features. The gradient is the
    mean of those at P factors on all objects; `PATH` makes it integrated gradients
    (Sundararajan et al., 2017), a factor of 1 alone plain gradient times input.
    """
    object_BTNC = batch['object'].astype(jnp.float32)

    def log_p(factor_TN: jax.Array) -> jax.Array:
        scaled = dict(batch) | {'object': object_BTNC * factor_TN[..., None]}
        logits_BKLV = model.apply(
            {'params': params}, scaled, token_L[None, None, :-1], branch, method=reading.logits
        )
        return reading.word_log_p(logits_BKLV[0, 0], token_L[1:])

    ones_TN = jnp.ones(batch['object_mask'].shape[1:])
    gradient_PLTN = jax.lax.map(
        lambda factor: jax.jacrev(log_p)(factor * ones_TN), jnp.asarray(factor_P, jnp.float32)
    )
    return gradient_PLTN.mean(0) * batch['object_mask'][0]
