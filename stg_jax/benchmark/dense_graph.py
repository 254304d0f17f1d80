"""The object graph as one matrix of all pairs of nodes: what the banded one is measured against."""

import jax
import jax.numpy as jnp
from flax import struct

from stg_jax.model.bands import matrix_messages
from stg_jax.model.graph import (
    degree_scale,
    masked_softmax,
    pairwise_cosine,
    pairwise_iou,
)


@struct.dataclass
class DenseGraph:
    """S G S over all O = T * N nodes of a clip, as one matrix (B, O, O)."""

    adj_BOO: jax.Array

    def propagate(self, node_BTND: jax.Array) -> jax.Array:
        """Return S G S H."""
        return matrix_messages(self.adj_BOO, node_BTND)


def build_dense_graph(
    object_BTNC: jax.Array,
    box_BTN4: jax.Array,
    mask_BTN: jax.Array,
    *,
    kind: str,
    direction: str,
) -> DenseGraph:
    """Compare every object of a clip with every other, then keep the links that the kind has.

    Arguments and graph are those of `stg_jax.model.graph.build_graph`.
    """
    B, T, N, C = object_BTNC.shape
    # All nodes as those of one frame: its pairs are all pairs.
    object_B1OC, box_B1O4 = object_BTNC.reshape(B, 1, T * N, C), box_BTN4.reshape(B, 1, T * N, 4)
    present_BO = mask_BTN.reshape(B, T * N)
    both_BOO = present_BO[:, :, None] & present_BO[:, None, :]
    if kind == 'dense':
        return _normalised(both_BOO.astype(jnp.float32))
    frame_O = jnp.repeat(jnp.arange(T), N)
    same_OO = frame_O[:, None] == frame_O
    if kind == 'temporal':
        same_OO = jnp.eye(T * N, dtype=bool)
    adj_BOO = masked_softmax(pairwise_iou(box_B1O4)[:, 0], both_BOO & same_OO)
    if kind != 'spatial':
        next_OO = frame_O[:, None] + 1 == frame_O
        time_BOO = masked_softmax(
            pairwise_cosine(object_B1OC, object_B1OC)[:, 0], both_BOO & next_OO
        )
        adj_BOO += {
            'literal': lambda: time_BOO,
            'forward': lambda: time_BOO.mT,
            'both': lambda: time_BOO + time_BOO.mT,
        }[direction]()
    return _normalised(adj_BOO)


def _normalised(adj_BOO):
    scale_BO = degree_scale(adj_BOO.sum(-1))
    return DenseGraph(scale_BO[:, :, None] * adj_BOO * scale_BO[:, None, :])
