"""The terms of the objective, XE_object + lambda_sl * XE_scene + lambda_d * KD, from logits.

Every term is returned as a sum over the real tokens of the batch; the caller divides by the
number of real tokens in the global batch, never a mean of means.
Source: Pan et al., CVPR 2020, section 3.4, and docs/model.md for what is our decision.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import struct

from stg_jax.config import LossConfig
from stg_jax.ops.platform import is_for_cpu


@struct.dataclass
class Words:
    """What is to be predicted at N places, or at (B, K, L).

    Attributes:
      target_N: ids of words.
      real_N: True at words and EOS, False at padding.
      taught_N: True at those of the real ones that both branches can tell: a clip without any
        object has no object loss and no KD term.
    """

    target_N: jax.Array
    real_N: jax.Array
    taught_N: jax.Array

    @classmethod
    def of(cls, target_BKL: jax.Array, real_BKL: jax.Array, has_object_B: jax.Array) -> 'Words':
        """Return the words of captions, knowing which clips have objects."""
        return cls(target_BKL, real_BKL, real_BKL & has_object_B[:, None, None])


def word_terms(
    logits: Mapping[str, jax.Array], words: Words, spec: LossConfig
) -> dict[str, jax.Array]:
    """Return the sums over words of 'xe_<decoder>' and, with two decoders, of 'kd' by words.

    Args:
      logits: (N, V) by decoder name.
      words: those that the logits should predict.
      spec: weights and variants.
    """
    terms = {}
    for name, logits_NV in logits.items():
        counted_N = words.taught_N if name == 'object' else words.real_N
        xe_N = cross_entropy(logits_NV, words.target_N, spec.label_smoothing)
        terms[f'xe_{name}'] = jnp.sum(xe_N * counted_N)
    if spec.kind == 'kl' and 'scene' in logits and 'object' in logits:
        kd_N = divergence(logits['scene'], logits['object'], spec)
        terms['kd'] = jnp.sum(kd_N * words.taught_N)
    return terms


def feature_terms(
    feature: Mapping[str, jax.Array], words: Words, spec: LossConfig
) -> dict[str, jax.Array]:
    """Return the sum over words (B, K, L) of 'kd' by features, where it is that.

    Args:
      feature: mean feature of each clip (B, D) by decoder name.
      words: their clips' squared distance counts at every one of them.
      spec: weights and variants.
    """
    if spec.kind != 'l2' or not {'scene', 'object'} <= feature.keys():
        return {}
    student_BD, teacher_BD = feature['scene'], _teacher(feature['object'], spec)
    distance_B = jnp.sum((student_BD - teacher_BD) ** 2, -1)
    return {'kd': jnp.sum(distance_B * words.taught_N.sum((1, 2)))}


def cross_entropy(logits_NV: jax.Array, target_N: jax.Array, label_smoothing: float) -> jax.Array:
    """Return -log p(target) (N,), mixed with the uniform target by `label_smoothing`."""
    # Not by log_softmax, whose gradient takes another sum over all words.
    log_sum_N = _log_sum(logits_NV)
    nll_N = log_sum_N - _chosen(logits_NV, target_N)
    if not label_smoothing:
        return nll_N
    return (1 - label_smoothing) * nll_N + label_smoothing * (log_sum_N - logits_NV.mean(-1))


def divergence(student_NV: jax.Array, teacher_NV: jax.Array, spec: LossConfig) -> jax.Array:
    """Return the divergence (N,) of the word distributions that two branches' logits stand for.

    KL(student || teacher) as the paper prints it, or the other way round for direction 'teacher';
    a temperature t softens both and multiplies by t ** 2 (Hinton et al., 2015).
    """
    left_NV, right_NV = student_NV / spec.temperature, _teacher(teacher_NV, spec) / spec.temperature
    if spec.direction == 'teacher':
        left_NV, right_NV = right_NV, left_NV
    return spec.temperature**2 * _kl(left_NV, right_NV)


@jax.custom_vjp
def _kl(left_NV, right_NV):
    """Return KL(left || right) (N,) of distributions given by their logits."""
    return _kl_forward(left_NV, right_NV)[0]


def _kl_forward(left_NV, right_NV):
    weight_NV = jnp.exp(left_NV - _largest(left_NV)[..., None])
    # Not from probabilities, which would take another pass over all words after that of their sum.
    mean_N = jnp.sum(weight_NV * (left_NV - right_NV), -1) / jnp.sum(weight_NV, -1)
    sum_left_N, sum_right_N = _log_sum(left_NV), _log_sum(right_NV)
    divergence_N = mean_N - sum_left_N + sum_right_N
    return divergence_N, (left_NV, right_NV, mean_N, sum_left_N, sum_right_N)


def _kl_backward(residuals, gradient_N):
    # In closed form: autodiff would sum once more over all words.
    left_NV, right_NV, *of_words = residuals
    mean_N1, sum_left_N1, sum_right_N1, gradient_N1 = (
        x[..., None] for x in (*of_words, gradient_N)
    )
    p_NV, q_NV = jnp.exp(left_NV - sum_left_N1), jnp.exp(right_NV - sum_right_N1)
    of_left_NV = gradient_N1 * p_NV * (left_NV - right_NV - mean_N1)
    return of_left_NV, gradient_N1 * (q_NV - p_NV)


_kl.defvjp(_kl_forward, _kl_backward)


def _log_sum(logits_NV):
    """Return the logarithm of the sum of exponentials (N,), in the form that `_kl` shares."""
    largest_N = _largest(logits_NV)
    return largest_N + jnp.log(jnp.sum(jnp.exp(logits_NV - largest_N[..., None]), -1))


def _largest(logits_NV):
    return jax.lax.stop_gradient(logits_NV.max(-1))


def _chosen(logits_NV, target_N):
    """Return the logit of each target (N,)."""
    if is_for_cpu():
        return jnp.take_along_axis(logits_NV, target_N[..., None], axis=-1)[..., 0]
    # The gradient of a gather is a scatter, which accelerators join to no other pass over logits.
    is_target_NV = jnp.arange(logits_NV.shape[-1]) == target_N[..., None]
    return jnp.sum(jnp.where(is_target_NV, logits_NV, 0), -1)


def _teacher(x, spec):
    return jax.lax.stop_gradient(x) if spec.detach_teacher else x
