"""Losses of logits over a vocabulary, in as few passes over the vocabulary as possible.

A batch of 64 captions has 5 million logits a branch, so each pass counts. The plain definitions:

    log_sum_exp(x)      jax.nn.logsumexp(x, -1)
    logit_of(x, id)     jnp.take_along_axis(x, id[..., None], -1)[..., 0]
    kl_divergence(x, y) sum(softmax(x) * (log_softmax(x) - log_softmax(y)), -1)
"""

import jax
import jax.numpy as jnp

from stg_jax.ops.platform import is_for_cpu


def log_sum_exp(logits_NV: jax.Array) -> jax.Array:
    """Compute log(sum(exp(logits))) (N,)."""
    # Subtracting the largest logit keeps exp from overflowing; it has no gradient of its own.
    largest_N = _largest(logits_NV)
    return largest_N + jnp.log(jnp.sum(jnp.exp(logits_NV - largest_N[..., None]), -1))


def logit_of(logits_NV: jax.Array, id_N: jax.Array) -> jax.Array:
    """Select the logit of one word id per row (N,)."""
    if is_for_cpu():
        return jnp.take_along_axis(logits_NV, id_N[..., None], axis=-1)[..., 0]
    # The gradient of a gather is a scatter, which accelerators cannot fuse with another pass.
    is_chosen_NV = jnp.arange(logits_NV.shape[-1]) == id_N[..., None]
    return jnp.sum(jnp.where(is_chosen_NV, logits_NV, 0), -1)


@jax.custom_vjp
def kl_divergence(left_NV: jax.Array, right_NV: jax.Array) -> jax.Array:
    """Compute KL(softmax(left) || softmax(right)) (N,)."""
    return _kl_forward(left_NV, right_NV)[0]


def _kl_forward(left_NV, right_NV):
    weight_NV = jnp.exp(left_NV - _largest(left_NV)[..., None])
    # From logits: probabilities would need a second pass, after that of their sum.
    mean_N = jnp.sum(weight_NV * (left_NV - right_NV), -1) / jnp.sum(weight_NV, -1)
    sum_left_N, sum_right_N = log_sum_exp(left_NV), log_sum_exp(right_NV)
    divergence_N = mean_N - sum_left_N + sum_right_N
    return divergence_N, (left_NV, right_NV, mean_N, sum_left_N, sum_right_N)


def _kl_backward(residuals, gradient_N):
    # In closed form: autodiff would sum over the vocabulary once more.
    left_NV, right_NV, *of_rows = residuals
    mean_N1, sum_left_N1, sum_right_N1, gradient_N1 = (x[..., None] for x in (*of_rows, gradient_N))
    p_NV, q_NV = jnp.exp(left_NV - sum_left_N1), jnp.exp(right_NV - sum_right_N1)
    of_left_NV = gradient_N1 * p_NV * (left_NV - right_NV - mean_N1)
    return of_left_NV, gradient_N1 * (q_NV - p_NV)


kl_divergence.defvjp(_kl_forward, _kl_backward)


def _largest(logits_NV):
    return jax.lax.stop_gradient(logits_NV.max(-1))
