"""Where in the clip the decoder's cross-attention looked, recomputed from what passed through it.

The network never keeps its attention weights: they follow from the queries and keys.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from stg_jax.explain import forward as reading
from stg_jax.explain.forward import Batch
from stg_jax.model.network import BranchSequence, CaptioningModel
from stg_jax.ops.cached_attention import MASKED

PyTree = Any


def logits_and_attention(
    model: CaptioningModel, params: PyTree, batch: Batch, token_BKL: jax.Array, branch: str
) -> tuple[jax.Array, jax.Array]:
    """Return a branch's logits (B, K, L, V) and attention (B, K, L, T) over frames.

    The attention is the mean of layers and heads; what a branch reads of one frame at several
    positions is added up.
    """
    logits_BKLV, layers, sequence = passed(model, params, batch, token_BKL, branch)
    weights = [weight_BKHLS(layer, sequence.mask_BS) for layer in layers]
    mean_BKLS = jnp.mean(jnp.stack(weights), axis=(0, 3))
    is_frame_ST = sequence.layout.is_frame
    share_ST = is_frame_ST / is_frame_ST.sum(1, keepdims=True)
    return logits_BKLV, mean_BKLS @ share_ST.astype(mean_BKLS.dtype)


def weight_BKHLS(layer: Mapping[str, jax.Array], mask_BS: jax.Array) -> jax.Array:  # noqa: N802
    """Return the weights of one layer from its 'query' and 'key'; they sum to 1 over S."""
    query_BKLHE, key_BSHE = layer['query'], layer['key']
    scale = query_BKLHE.shape[-1] ** -0.5
    logit_BKHLS = jnp.einsum(
        'BKLHE,BSHE->BKHLS', query_BKLHE * scale, key_BSHE, preferred_element_type=jnp.float32
    )
    return jax.nn.softmax(jnp.where(mask_BS[:, None, None, None], logit_BKHLS, MASKED))


def passed(
    model: CaptioningModel, params: PyTree, batch: Batch, token_BKL: jax.Array, branch: str
) -> tuple[jax.Array, list[dict[str, jax.Array]], BranchSequence]:
    """Return the logits, what passed through each cross-attention, and the sequence it read.

    Of each layer: 'query', 'key' and 'value' by heads, and 'attend', what the heads read.
    """

    def is_wanted(module: nn.Module, method: str) -> bool:
        inside = 'cross_attention' in module.path and method in ('__call__', 'attend')
        return inside or method == 'sequence'

    logits_BKLV, state = model.apply(
        {'params': params},
        batch,
        token_BKL,
        branch,
        method=reading.logits,
        capture_intermediates=is_wanted,
    )
    taken = state['intermediates']
    decoder = taken[f'decoders_{branch}']
    layers = []
    for number in range(len(decoder)):
        layer = decoder[f'decoder_{number}']['cross_attention']
        parts = {part: layer[part]['__call__'][0] for part in ('query', 'key', 'value')}
        query_MHE = parts['query']
        parts['query'] = query_MHE.reshape(*token_BKL.shape, *query_MHE.shape[1:])
        layers.append(parts | {'attend': layer['attend'][0]})
    return logits_BKLV, layers, taken['sequence'][0]
