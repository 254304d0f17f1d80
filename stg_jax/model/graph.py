"""The object graph of a clip, and the graph convolution over it.

Nodes are the N objects of each of T frames; a link exists only within a frame and between
neighbouring frames, so the adjacency G over all T * N nodes is block banded. It is kept as its
(N, N) blocks, and one propagation (`ops/band_messages.py`) costs O(T N^2) instead of O(T^2 N^2).

Source: Pan et al., "Spatio-Temporal Graph for Video Captioning with Knowledge Distillation",
CVPR 2020, section 3.1.
"""

import functools
from typing import Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from stg_jax.ops.band_messages import Bands, as_matrix, from_frame, messages
from stg_jax.ops.dense import Dense


class ObjectGraph(Protocol):
    """A normalized adjacency S G S with S = diag(row degree) ** -1/2."""

    def propagate(self, node_BTND: jax.Array) -> jax.Array:
        """Compute S G S H for node states H (B, T, N, D)."""
        ...

    def dense(self) -> jax.Array:
        """Expand S G S to (B, T * N, T * N); for tests and drawing only."""
        ...


class GraphConv(nn.Module):
    """Graph convolution H' = relu(H + S G S H W), the residual inside the relu.

    Attributes:
      width: D.
      norm: 'none' as printed in the paper, or 'layer' to normalize the update S G S H W.
      dtype: of the computation.
    """

    width: int
    norm: str
    dtype: jnp.dtype

    def setup(self):
        """Define W and, if asked for, the normalization."""
        self.linear = Dense(self.width, use_bias=False, dtype=self.dtype)
        nn.share_scope(self, self.linear)  # W is stored as 'kernel' of this module
        if self.norm == 'layer':
            self.layer_norm = nn.LayerNorm(dtype=self.dtype)

    def __call__(self, node_BTND: jax.Array, graph: ObjectGraph) -> jax.Array:
        """Map node states H (B, T, N, D) to H' (B, T, N, D)."""
        update_BTND = self.linear(graph.propagate(node_BTND))
        if self.norm == 'layer':
            update_BTND = self.layer_norm(update_BTND)
        return nn.relu(node_BTND + update_BTND)


@struct.dataclass
class BandedGraph:
    """Blocks (t, t + k) of S G S as bands[k], each (B, T, N, N); see `ops/band_messages.py`."""

    bands: Bands

    def propagate(self, node_BTND: jax.Array) -> jax.Array:
        """Compute S G S H for node states H (B, T, N, D), in their dtype."""
        return messages(self.bands, node_BTND)

    def dense(self) -> jax.Array:
        """Expand S G S to (B, T * N, T * N); for tests and drawing only."""
        return as_matrix(self.bands)


@struct.dataclass
class UniformGraph:
    """Every pair of present nodes of the clip linked with the same weight (the dense ablation).

    G is the outer product of the mask with weight_BTN = mask / count, so S = 1 and one
    propagation is a mean over the clip.
    """

    mask_BTN: jax.Array
    weight_BTN: jax.Array

    def propagate(self, node_BTND: jax.Array) -> jax.Array:
        """Give every present node the mean state of all present nodes (B, T, N, D)."""
        mean_BD = jnp.einsum('BTN,BTND->BD', self.weight_BTN.astype(node_BTND.dtype), node_BTND)
        # Not an einsum, see `ops.band_messages.as_matrix`.
        return self.mask_BTN[..., None].astype(node_BTND.dtype) * mean_BD[:, None, None]

    def dense(self) -> jax.Array:
        """Expand G to (B, T * N, T * N); for tests and drawing only."""
        B = self.mask_BTN.shape[0]
        return jnp.einsum(
            'BI,BJ->BIJ', self.mask_BTN.reshape(B, -1), self.weight_BTN.reshape(B, -1)
        )


def build_graph(
    object_BTNC: jax.Array,
    box_BTN4: jax.Array,
    mask_BTN: jax.Array,
    *,
    kind: str,
    direction: str,
) -> ObjectGraph:
    """Build the normalized graph of each clip from raw object features and boxes, in float32.

    Args:
      object_BTNC: input features, unprojected: the graph is a constant of the clip.
      box_BTN4: x1 y1 x2 y2 in [0, 1].
      mask_BTN: True where an object exists; absent objects get zero rows and columns.
      kind: 'full', 'spatial' (no links in time), 'temporal' (within a frame each object sees only
        itself) or 'dense' (every pair of present nodes, uniformly).
      direction: of the links in time. 'literal' multiplies G H as printed, so that messages run
        from frame t + 1 to frame t; 'forward' transposes those blocks; 'both' has the two.
    """
    if kind == 'dense':
        # G has rank one: products with two vectors replace the (O, O) matrix.
        count_B11 = mask_BTN.sum((1, 2), keepdims=True)
        return UniformGraph(
            mask_BTN.astype(jnp.float32), mask_BTN / jnp.maximum(count_B11, 1).astype(jnp.float32)
        )
    N = mask_BTN.shape[-1]
    if kind == 'temporal':
        # Only the link of each object to itself is left, as in the paper's row 'temporal graph
        # only'.
        same_BTNN = jnp.eye(N) * mask_BTN[..., None]
    else:
        same_BTNN = spatial_adjacency(box_BTN4, mask_BTN)
    bands = {0: same_BTNN}
    if kind != 'spatial':
        time_BTNN = temporal_adjacency(object_BTNC, mask_BTN)
        # G H as printed sums over columns, so row t receives from frame t + 1: messages run back in
        # time. We keep that as the default and offer the transpose.
        if direction in ('literal', 'both'):
            bands[1] = time_BTNN
        if direction in ('forward', 'both'):
            bands[-1] = from_frame(time_BTNN.mT, -1)
    return BandedGraph(_normalized(bands))


def spatial_adjacency(box_BTN4: jax.Array, mask_BTN: jax.Array) -> jax.Array:
    """Compute softmax over j of IoU(box_i, box_j) per frame (B, T, N, N), self included."""
    return masked_softmax(pairwise_iou(box_BTN4), _pairs(mask_BTN, mask_BTN))


def temporal_adjacency(object_BTNC: jax.Array, mask_BTN: jax.Array) -> jax.Array:
    """Compute softmax over j of cos(o_t^i, o_{t+1}^j) (B, T, N, N); zero at the last frame."""
    cosine_BTNN = pairwise_cosine(object_BTNC[:, :-1], object_BTNC[:, 1:])
    # Pad the (N, N) cosines and not the wide features; the mask makes the last frame zero.
    cosine_BTNN = jnp.pad(cosine_BTNN, [(0, 0), (0, 1), (0, 0), (0, 0)])
    return masked_softmax(cosine_BTNN, _pairs(mask_BTN, from_frame(mask_BTN, 1)))


def pairwise_iou(box_BTN4: jax.Array) -> jax.Array:
    """Compute the intersection over union (IoU) of all box pairs of a frame (B, T, N, N)."""
    low_BTN2, high_BTN2 = box_BTN4[..., :2], box_BTN4[..., 2:]
    area_BTN = jnp.prod(jnp.maximum(high_BTN2 - low_BTN2, 0), -1)
    overlap_BTNN2 = jnp.maximum(
        jnp.minimum(high_BTN2[..., :, None, :], high_BTN2[..., None, :, :])
        - jnp.maximum(low_BTN2[..., :, None, :], low_BTN2[..., None, :, :]),
        0,
    )
    both_BTNN = jnp.prod(overlap_BTNN2, -1)
    either_BTNN = area_BTN[..., :, None] + area_BTN[..., None, :] - both_BTNN
    iou_BTNN = jnp.where(either_BTNN > 0, both_BTNN / jnp.where(either_BTNN > 0, either_BTNN, 1), 0)
    # A box of zero area still overlaps itself fully.
    return jnp.where(jnp.eye(box_BTN4.shape[-2], dtype=bool), 1.0, iou_BTNN)


def pairwise_cosine(left_BTNC: jax.Array, right_BTMC: jax.Array) -> jax.Array:
    """Compute the cosine of every left and right feature (B, T, N, M); 0 if one is zero."""
    left_BTNC, right_BTMC = left_BTNC.astype(jnp.float32), right_BTMC.astype(jnp.float32)

    def scale(x):
        return jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, -1), 1e-12))

    # Scale the products and not the features, of which there are many times more numbers.
    product_BTNM = jnp.einsum('BTNC,BTMC->BTNM', left_BTNC, right_BTMC)
    return product_BTNM * scale(left_BTNC)[..., :, None] * scale(right_BTMC)[..., None, :]


def masked_softmax(logit_XM: jax.Array, mask_XM: jax.Array) -> jax.Array:
    """Compute the softmax of logits in [-1, 1] over the True columns; zeros where there is none."""
    # Cosines and IoUs cannot overflow exp, so no maximum is subtracted.
    weight_XM = jnp.where(mask_XM, jnp.exp(logit_XM), 0)
    return weight_XM / jnp.maximum(weight_XM.sum(-1, keepdims=True), 1e-9)


def degree_scale(degree_X: jax.Array) -> jax.Array:
    """Compute the diagonal of S: degree ** -1/2, and 0 for a node without links."""
    return jnp.where(degree_X > 0, jax.lax.rsqrt(jnp.where(degree_X > 0, degree_X, 1)), 0)


def _normalized(bands: Bands) -> Bands:
    """Scale G to S G S."""
    degrees = [band_BTNN.sum(-1) for band_BTNN in bands.values()]
    # The degrees are 2 where the next frame has objects, 1 where it has none or is beyond the clip,
    # and 0 for absent objects, whose rows and columns stay zero.
    scale_BTN = degree_scale(functools.reduce(jnp.add, degrees))
    return {
        offset: scale_BTN[..., :, None] * band_BTNN * from_frame(scale_BTN, offset)[..., None, :]
        for offset, band_BTNN in bands.items()
    }


def _pairs(row_mask_BTN, column_mask_BTM):
    return row_mask_BTN[..., :, None] & column_mask_BTM[..., None, :]
