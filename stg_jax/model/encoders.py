"""From the features of a clip to vectors of its frames or objects, once for each branch."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from stg_jax.model.graph import ObjectGraph
from stg_jax.ops.dense import Dense


class SceneEncoder(nn.Module):
    """Fuse appearance and motion: relu([appearance @ W2d ; motion @ W3d] @ Wfuse)."""

    width: int
    fusion: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, appearance_BTC: jax.Array, motion_BTC: jax.Array) -> jax.Array:
        """Return (B, T, D), or (B, 2T, D) when the two sequences are concatenated in time."""

        def dense(name):
            return Dense(self.width, use_bias=False, dtype=self.dtype, name=name)

        axis = {'channel': -1, 'time': 1}[self.fusion]
        both = jnp.concatenate(
            [dense('appearance')(appearance_BTC), dense('motion')(motion_BTC)], axis
        )
        return nn.relu(dense('fuse')(both))


class ObjectEncoder(nn.Module):
    """Graph convolutions over the objects of a clip, then a mean over those of each frame.

    Layer: H' = relu(H + S G S H W), the residual inside the relu, from H0 = object @ Wo.
    """

    width: int
    num_layers: int
    norm: str  # none | layer
    dtype: jnp.dtype

    def __call__(
        self, object_BTNC: jax.Array, mask_BTN: jax.Array, graph: ObjectGraph
    ) -> jax.Array:
        """Return (B, T, D), zero for a frame without objects."""
        return mean_of_objects(self.nodes(object_BTNC, graph), mask_BTN)

    @nn.compact
    def nodes(self, object_BTNC: jax.Array, graph: ObjectGraph) -> jax.Array:
        """Return the states (B, T, N, D) of all nodes, also of absent ones."""
        node_BTND = Dense(self.width, use_bias=False, dtype=self.dtype, name='embed')(object_BTNC)
        for layer in range(self.num_layers):
            dense = Dense(self.width, use_bias=False, dtype=self.dtype, name=f'graph_{layer}')
            update_BTND = dense(graph.propagate(node_BTND))
            if self.norm == 'layer':
                update_BTND = nn.LayerNorm(dtype=self.dtype, name=f'norm_{layer}')(update_BTND)
            node_BTND = nn.relu(node_BTND + update_BTND)
        return node_BTND


def mean_of_objects(node_BTND: jax.Array, mask_BTN: jax.Array) -> jax.Array:
    """Average the present objects of each frame (B, T, D); zero for a frame without objects."""
    count_BT1 = mask_BTN.sum(-1, keepdims=True)
    weight_BTN = (mask_BTN / jnp.maximum(count_BT1, 1)).astype(node_BTND.dtype)
    return jnp.einsum('BTN,BTND->BTD', weight_BTN, node_BTND)
