"""Cross-attention weights over frames, recomputed from the captured queries and keys.

The network itself never stores attention weights: training would pay for them at every step.
"""

from collections.abc import Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import linen as nn

from stg_jax.explain import forward
from stg_jax.explain.forward import DeviceBatch, PyTree
from stg_jax.model.network import BranchSequence, CaptioningModel
from stg_jax.ops.cached_attention import MASKED


def logits_and_attention(
    model: CaptioningModel, params: PyTree, batch: DeviceBatch, token_BKL: jax.Array, branch: str
) -> tuple[jax.Array, jax.Array]:
    """Compute a branch's logits (B, K, L, V) and its attention (B, K, L, T) over frames.

    Attention is averaged over layers and heads. A branch with several memory positions per frame
    has them summed.
    """
    logits_BKLV, layers, sequence = capture_attention(model, params, batch, token_BKL, branch)
    weights = [weight_BKHLS(layer, sequence.mask_BS) for layer in layers]
    mean_BKLS = jnp.mean(jnp.stack(weights), axis=(0, 3))
    is_frame_ST = sequence.layout.is_frame
    share_ST = is_frame_ST / is_frame_ST.sum(1, keepdims=True)
    return logits_BKLV, mean_BKLS @ share_ST.astype(mean_BKLS.dtype)


def weight_BKHLS(layer: Mapping[str, jax.Array], mask_BS: jax.Array) -> jax.Array:  # noqa: N802
    """Compute one layer's attention weights from its 'query' and 'key'; they sum to 1 over S."""
    # The same formula as `transformer.Attention`; a test holds the two equal.
    query_BKLHE, key_BSHE = layer['query'], layer['key']
    scale = query_BKLHE.shape[-1] ** -0.5
    logit_BKHLS = jnp.einsum(
        'BKLHE,BSHE->BKHLS', query_BKLHE * scale, key_BSHE, preferred_element_type=jnp.float32
    )
    # MASKED is finite: with -inf a row without any position would become NaN.
    return jax.nn.softmax(jnp.where(mask_BS[:, None, None, None], logit_BKHLS, MASKED))


def capture_attention(
    model: CaptioningModel, params: PyTree, batch: DeviceBatch, token_BKL: jax.Array, branch: str
) -> tuple[jax.Array, list[dict[str, jax.Array]], BranchSequence]:
    """Run a branch and capture the inputs and outputs of each cross-attention.

    Returns:
      The logits; for each layer 'query', 'key', 'value' and the result 'attend', by head; and the
      sequence that the branch read.
    """

    # Only these intermediates are kept: capturing everything would hold every activation of the
    # network in memory.
    def is_wanted(module: nn.Module, method: str) -> bool:
        inside = 'cross_attention' in module.path and method in ('__call__', 'attend')
        return inside or method == 'sequence'

    logits_BKLV, state = model.apply(
        {'params': params},
        batch,
        token_BKL,
        branch,
        method=forward.logits,
        capture_intermediates=is_wanted,
    )
    taken: Any = state['intermediates']
    decoder = taken[f'decoders_{branch}']
    layers = []
    for number in range(len(decoder)):
        layer = decoder[f'decoder_{number}']['cross_attention']
        parts = {part: layer[part]['__call__'][0] for part in ('query', 'key', 'value')}
        query_MHE = parts['query']
        parts['query'] = query_MHE.reshape(*token_BKL.shape, *query_MHE.shape[1:])
        layers.append(parts | {'attend': layer['attend'][0]})
    return cast(jax.Array, logits_BKLV), layers, taken['sequence'][0]
