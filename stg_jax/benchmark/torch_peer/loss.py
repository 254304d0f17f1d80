"""XE_object + lambda_sl * XE_scene + lambda_d * KL(scene || object), as a sum over real tokens."""

import torch
from torch.nn import functional

from stg_jax.data.vocab import PAD

_CHUNK = 256  # tokens


def full_loss(network, states, target_RL, weights):
    """Compute the loss from the logits of all positions, including padding.

    `weights` are those of the scene branch and of the distillation.
    """
    logits = {name: network.decoders[name].logits(state) for name, state in states.items()}
    return _loss(logits, target_RL, weights)


def chunked_loss(network, states, target_M, weights):
    """Compute the loss of packed tokens; only one chunk of logits is in memory at a time."""
    vectors = [network.decoders[name].embed.weight for name in ('scene', 'object')]
    return _ChunkedLoss.apply(states['scene'], states['object'], *vectors, target_M, weights)


class _ChunkedLoss(torch.autograd.Function):
    """Computes the gradient of each chunk while its logits are in memory."""

    @staticmethod
    def forward(ctx, scene_MD, object_MD, scene_VD, object_VD, target_M, weights):
        vectors = [vector.detach().requires_grad_() for vector in (scene_VD, object_VD)]
        # The embedding is used by every chunk, so its gradient accumulates.
        of_vectors = [torch.zeros_like(vector) for vector in vectors]
        of_states, total = [], 0
        states_and_target = zip(
            scene_MD.split(_CHUNK), object_MD.split(_CHUNK), target_M.split(_CHUNK), strict=True
        )
        for *states, target in states_and_target:
            states = [state.detach().requires_grad_() for state in states]
            with torch.enable_grad():
                pairs = zip(('scene', 'object'), states, vectors, strict=True)
                logits = {name: functional.linear(*pair) for name, *pair in pairs}
                loss = _loss(logits, target, weights)
            gradients = torch.autograd.grad(loss, [*states, *vectors])
            of_states.append(gradients[:2])
            for of_vector, gradient in zip(of_vectors, gradients[2:], strict=True):
                of_vector += gradient
            total = total + loss.detach()
        of_states = [torch.cat(parts) for parts in zip(*of_states, strict=True)]
        ctx.save_for_backward(*of_states, *of_vectors)
        return total

    @staticmethod
    def backward(ctx, gradient):
        return *(gradient * saved for saved in ctx.saved_tensors), None, None


def _loss(logits, target, weights):
    target = target.flatten()
    log_p = {name: x.flatten(0, -2).log_softmax(-1) for name, x in logits.items()}
    xe = {
        name: functional.nll_loss(each, target, ignore_index=PAD, reduction='sum')
        for name, each in log_p.items()
    }
    kl = functional.kl_div(log_p['object'], log_p['scene'], log_target=True, reduction='none')
    kl = kl.sum(-1)
    scene_weight, kd_weight = weights
    return xe['object'] + scene_weight * xe['scene'] + kd_weight * torch.sum(kl * (target != PAD))
