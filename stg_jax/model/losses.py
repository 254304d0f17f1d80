"""The training objective: XE_object + lambda_sl * XE_scene + lambda_d * KD.

Every term is a sum over the real tokens of the batch; the caller divides by the number of real
tokens in the global batch. A mean of the means of devices would weight tokens unequally.
Source: Pan et al., CVPR 2020, section 3.4; docs/model.md marks what is our decision.
"""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import struct

from stg_jax.config import LossConfig
from stg_jax.model.language_decoder import word_logits
from stg_jax.model.network import BranchStates
from stg_jax.ops.chunked_loss import chunked_loss
from stg_jax.ops.packing import Packing
from stg_jax.ops.softmax import kl_divergence, log_sum_exp, logit_of


@struct.dataclass
class Words:
    """Targets of N tokens, or of (B, K, L).

    Attributes:
      target_N: word ids.
      real_N: True at words and EOS, False at padding.
      taught_N: True for real tokens of clips with at least one object; only these enter the
        object and KD losses.
      weight_N: factor of the cross-entropy of each token; None for 1.
    """

    target_N: jax.Array
    real_N: jax.Array
    taught_N: jax.Array
    weight_N: jax.Array | None = None

    @classmethod
    def of(
        cls,
        target_BKL: jax.Array,
        real_BKL: jax.Array,
        has_object_B: jax.Array,
        weight_BK: jax.Array | None = None,
    ) -> 'Words':
        """Build the targets of captions, given which clips have objects and weights of captions."""
        weight_BKL = None
        if weight_BK is not None:
            weight_BKL = jnp.broadcast_to(weight_BK[..., None], target_BKL.shape)
        return cls(target_BKL, real_BKL, real_BKL & has_object_B[:, None, None], weight_BKL)


def objective(
    states: Mapping[str, BranchStates],
    words: Words,
    packing: Packing,
    config: LossConfig,
    again: Mapping[str, BranchStates] | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Sum the loss over the tokens of a batch.

    Args:
      states: by decoder name.
      words: targets (B, K, L).
      packing: of the states.
      config: weights and variants.
      again: states of a second pass with different dropout, for R-Drop.

    Returns:
      The weighted sum of the terms, which has the gradient, and the terms themselves for logging:
      'xe_<decoder>', 'kd' and, with a second pass, 'r_drop'.
    """
    passes = [states] if again is None else [states, again]
    total, terms = chunked_loss(
        functools.partial(_loss_of_words, config),
        {name: of.vector_VD for name, of in states.items()},
        [{name: of.hidden_MD for name, of in each.items()} for each in passes],
        jax.tree.map(packing.pack, words),
    )
    features = {name: of.feature_BD for name, of in states.items()}
    of_features = feature_terms(features, words, config)
    return total + _weighted(config, of_features), terms | of_features


def _loss_of_words(config, vector, hidden_of_passes, words):
    passes = [
        {name: word_logits(hidden_MD, vector[name]) for name, hidden_MD in hidden.items()}
        for hidden in hidden_of_passes
    ]
    of_passes = [word_terms(logits, words, config) for logits in passes]
    terms = jax.tree.map(lambda *x: sum(x) / len(x), *of_passes)
    if len(passes) > 1:
        terms['r_drop'] = _disagreement(passes[0], passes[1], words)
    return _weighted(config, terms), terms


def _weighted(config, terms):
    return sum((config.weight(name) * value for name, value in terms.items()), jnp.zeros(()))


def word_terms(
    logits: Mapping[str, jax.Array], words: Words, config: LossConfig
) -> dict[str, jax.Array]:
    """Sum 'xe_<decoder>' and, with two decoders and kind 'kl', 'kd' over tokens.

    Args:
      logits: (N, V) by decoder name.
      words: targets of the same N tokens.
      config: weights and variants.
    """
    terms = {}
    for name, logits_NV in logits.items():
        xe_N = cross_entropy(logits_NV, words.target_N, config.label_smoothing)
        if words.weight_N is not None:
            xe_N *= words.weight_N
        terms[f'xe_{name}'] = jnp.sum(xe_N * _counted(name, words))
    if config.kind == 'kl' and 'scene' in logits and 'object' in logits:
        # Distillation compares whole distributions, so it needs both branches' logits of one chunk
        # at the same time.
        kd_N = divergence(logits['scene'], logits['object'], config)
        terms['kd'] = jnp.sum(kd_N * words.taught_N)
    return terms


def _disagreement(first, second, words):
    """Sum the mean of both KL divergences between two passes over the tokens of all decoders.

    Source: Liang et al., "R-Drop: Regularized Dropout for Neural Networks", NeurIPS 2021.
    """
    total = jnp.zeros(())
    for name in first:
        both_N = kl_divergence(first[name], second[name])
        both_N += kl_divergence(second[name], first[name])
        total += jnp.sum(both_N * _counted(name, words)) / 2
    return total


def _counted(name, words):
    # A clip without objects gives the teacher nothing to read; the student still learns from it.
    return words.taught_N if name == 'object' else words.real_N


def feature_terms(
    feature: Mapping[str, jax.Array], words: Words, config: LossConfig
) -> dict[str, jax.Array]:
    """Sum 'kd' by features over tokens, for kind 'l2'; empty for other kinds.

    Args:
      feature: mean feature of each clip (B, D) by decoder name.
      words: targets (B, K, L); a clip's squared distance counts once per token.
      config: weights and variants.
    """
    if config.kind != 'l2' or not {'scene', 'object'} <= feature.keys():
        return {}
    student_BD, teacher_BD = feature['scene'], _teacher(feature['object'], config)
    # Weighted by tokens like the other terms, so that all of them are divided by one count.
    distance_B = jnp.sum((student_BD - teacher_BD) ** 2, -1)
    return {'kd': jnp.sum(distance_B * words.taught_N.sum((1, 2)))}


def cross_entropy(logits_NV: jax.Array, target_N: jax.Array, label_smoothing: float) -> jax.Array:
    """Compute -log p(target) (N,), mixed with the uniform target by `label_smoothing`."""
    # Without log_softmax, whose gradient takes another sum over the vocabulary.
    log_sum_N = log_sum_exp(logits_NV)
    nll_N = log_sum_N - logit_of(logits_NV, target_N)
    if not label_smoothing:
        return nll_N
    return (1 - label_smoothing) * nll_N + label_smoothing * (log_sum_N - logits_NV.mean(-1))


def divergence(student_NV: jax.Array, teacher_NV: jax.Array, config: LossConfig) -> jax.Array:
    """Compute the divergence (N,) between the word distributions of student and teacher.

    KL(student || teacher) as printed in the paper, or KL(teacher || student) for direction
    'teacher'. A temperature t softens both and multiplies by t ** 2 (Hinton et al., 2015).
    """
    left_NV, right_NV = (
        student_NV / config.temperature,
        _teacher(teacher_NV, config) / config.temperature,
    )
    if config.direction == 'teacher':
        left_NV, right_NV = right_NV, left_NV
    # A temperature t divides the gradient by t ** 2; the factor keeps the weight of the term.
    return config.temperature**2 * kl_divergence(left_NV, right_NV)


def _teacher(x, config):
    # Without the stop the KL also pulls the teacher towards the student. The paper prints this
    # joint objective; on the toy world it cost the teacher a third of its correct captions.
    return jax.lax.stop_gradient(x) if config.detach_teacher else x
