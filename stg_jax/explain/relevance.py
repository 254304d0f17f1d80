"""How much each object speaks for each word: integrated gradients of the object branch."""

import jax
import jax.numpy as jnp
import numpy as np

from stg_jax.explain import forward
from stg_jax.explain.forward import DeviceBatch, PyTree
from stg_jax.model.network import CaptioningModel

# Midpoints of 8 equal steps on the path from no objects (0) to all of them (1).
PATH = (np.arange(8) + 0.5) / 8


def object_relevance(
    model: CaptioningModel,
    params: PyTree,
    batch: DeviceBatch,
    token_L: jax.Array,
    branch: str,
    factor_P: np.ndarray,
) -> jax.Array:
    """Attribute each word's log-probability to the objects of one clip, (L - 1, T, N).

    Each object's feature is multiplied by a factor; the derivative with respect to that factor is
    gradient times input. The graph's edges do not depend on the factors: cosines ignore length,
    and overlaps ignore features. The result is the mean over P values shared by all factors:
    `PATH` gives integrated gradients (Sundararajan et al., 2017), [1.0] plain gradient times input.
    """
    # Features are stored as float16, in which small gradients would underflow.
    object_BTNC = batch['object'].astype(jnp.float32)

    def log_p(factor_TN: jax.Array) -> jax.Array:
        scaled = dict(batch) | {'object': object_BTNC * factor_TN[..., None]}
        token_BKL = token_L[None, None, :-1]
        logits_BKLV = forward.apply_logits(model, params, scaled, token_BKL, branch)
        return forward.word_log_p(logits_BKLV[0, 0], token_L[1:])

    # jacrev computes the gradients of all L words at once. The P factors follow one another, so
    # that the memory is that of one.
    ones_TN = jnp.ones(batch['object_mask'].shape[1:])
    gradient_PLTN = jax.lax.map(
        lambda factor: jax.jacrev(log_p)(factor * ones_TN), jnp.asarray(factor_P, jnp.float32)
    )
    return gradient_PLTN.mean(0) * batch['object_mask'][0]
