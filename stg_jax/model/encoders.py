"""From the features of a clip to vectors of its frames or objects, once for each branch."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from stg_jax.model.graph import GraphConv, ObjectGraph
from stg_jax.ops.dense import Dense


class SceneEncoder(nn.Module):
    """Fuse appearance and motion: relu([appearance @ W2d ; motion @ W3d] @ Wfuse)."""

    width: int
    fusion: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, appearance_BTC: jax.Array, motion_BTC: jax.Array) -> jax.Array:
        """Compute (B, T, D), or (B, 2T, D) for fusion 'time'."""

        def dense(name):
            return Dense(self.width, use_bias=False, dtype=self.dtype, name=name)

        axis = {'channel': -1, 'time': 1}[self.fusion]
        both = jnp.concatenate(
            [dense('appearance')(appearance_BTC), dense('motion')(motion_BTC)], axis
        )
        return nn.relu(dense('fuse')(both))


class ObjectEncoder(nn.Module):
    """Graph convolutions over the objects of a clip, from H0 = object @ Wo without a bias."""

    width: int
    num_layers: int
    norm: str  # see `GraphConv`
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, object_BTNC: jax.Array, graph: ObjectGraph) -> jax.Array:
        """Compute the states (B, T, N, D) of all nodes, absent ones included."""
        node_BTND = Dense(self.width, use_bias=False, dtype=self.dtype, name='embed')(object_BTNC)
        for layer in range(self.num_layers):
            conv = GraphConv(self.width, self.norm, self.dtype, name=f'graph_{layer}')
            node_BTND = conv(node_BTND, graph)
        return node_BTND


def mean_of_objects(node_BTND: jax.Array, mask_BTN: jax.Array) -> jax.Array:
    """Average the present objects of each frame (B, T, D); zero for a frame without objects."""
    count_BT1 = mask_BTN.sum(-1, keepdims=True)
    weight_BTN = (mask_BTN / jnp.maximum(count_BT1, 1)).astype(node_BTND.dtype)
    return jnp.einsum('BTN,BTND->BTD', weight_BTN, node_BTND)
