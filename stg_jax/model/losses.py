"""The training objective: XE_object + lambda_sl * XE_scene + lambda_d * KD.

Every term is returned as a sum over the real tokens of the batch; the caller divides by the
number of real tokens in the global batch, never a mean of means.
Source: Pan et al., CVPR 2020, section 3.4, and docs/model.md for what is our decision.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from stg_jax.errors import UserError
from stg_jax.model.captioner import BranchOutput

_CHOICES = {'kind': ('kl', 'l2'), 'direction': ('student', 'teacher')}


@dataclasses.dataclass(frozen=True)
class LossSpec:
    """Weights and variants: `config.loss` and `config.kd` (configs/common.py)."""

    scene_weight: float
    kd_weight: float
    label_smoothing: float
    kind: str
    direction: str
    detach_teacher: bool
    temperature: float

    def __post_init__(self):
        """Refuse a value that names no variant."""
        for key, choices in _CHOICES.items():
            if (value := getattr(self, key)) not in choices:
                raise UserError(f'config.kd.{key} is {value!r}; it can be {", ".join(choices)}')
        if self.temperature <= 0:
            raise UserError(f'config.kd.temperature is {self.temperature}; it must be above 0')

    def weight(self, term: str) -> float:
        """Return the weight of a term of `loss_terms` in the objective."""
        return {'xe_scene': self.scene_weight, 'kd': self.kd_weight}.get(term, 1.0)


def loss_terms(
    outputs: Mapping[str, BranchOutput],
    target_BKL: jax.Array,
    real_BKL: jax.Array,
    has_object_B: jax.Array,
    spec: LossSpec,
) -> dict[str, jax.Array]:
    """Return the sums over real tokens of 'xe_<decoder>' and, with two decoders, of 'kd'.

    Args:
      outputs: by decoder name; their logits are those of `target_BKL`.
      target_BKL: the words to predict.
      real_BKL: True at words and EOS, False at padding.
      has_object_B: False for a clip without any object: it has no object loss and no KD term.
      spec: weights and variants.
    """
    taught_BKL = real_BKL & has_object_B[:, None, None]
    terms = {}
    for name, output in outputs.items():
        counted_BKL = taught_BKL if name == 'object' else real_BKL
        xe_BKL = cross_entropy(output.logits_BKLV, target_BKL, spec.label_smoothing)
        terms[f'xe_{name}'] = jnp.sum(xe_BKL * counted_BKL)
    if 'scene' in outputs and 'object' in outputs:
        kd_BKL = distillation(outputs['scene'], outputs['object'], spec)
        terms['kd'] = jnp.sum(kd_BKL * taught_BKL)
    return terms


def cross_entropy(
    logits_BKLV: jax.Array, target_BKL: jax.Array, label_smoothing: float
) -> jax.Array:
    """Return -log p(target) (B, K, L), mixed with the uniform target by `label_smoothing`."""
    log_p_BKLV = jax.nn.log_softmax(logits_BKLV)
    nll_BKL = -jnp.take_along_axis(log_p_BKLV, target_BKL[..., None], axis=-1)[..., 0]
    if not label_smoothing:
        return nll_BKL
    return (1 - label_smoothing) * nll_BKL - label_smoothing * log_p_BKLV.mean(-1)


def distillation(student: BranchOutput, teacher: BranchOutput, spec: LossSpec) -> jax.Array:
    """Return the KD term at every token (B, K, L), or broadcastable to it for features.

    'kl' compares word distributions: KL(student || teacher) as the paper prints it, or the other
    way round for direction 'teacher'; a temperature t softens both and multiplies by t ** 2
    (Hinton et al., 2015). 'l2' is the squared distance of the branches' mean features.
    """
    if spec.detach_teacher:
        teacher = jax.tree.map(jax.lax.stop_gradient, teacher)
    if spec.kind == 'l2':
        distance_B = jnp.sum((student.feature_BD - teacher.feature_BD) ** 2, -1)
        return distance_B[:, None, None]
    log_student_BKLV = jax.nn.log_softmax(student.logits_BKLV / spec.temperature)
    log_teacher_BKLV = jax.nn.log_softmax(teacher.logits_BKLV / spec.temperature)
    left, right = log_student_BKLV, log_teacher_BKLV
    if spec.direction == 'teacher':
        left, right = right, left
    return spec.temperature**2 * jnp.sum(jnp.exp(left) * (left - right), -1)
