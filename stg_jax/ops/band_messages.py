"""Messages of a graph convolution along the bands of the object graph.

The weights of the links are kept in bands: bands[k] (B, T, N, N) has in row i, column j the weight
with which object i of frame t receives from object j of frame t + k, for k in -1, 0, 1. Weights
that would read beyond the clip are zero. The plain definition is one product with the (O, O)
matrix of all O = T * N nodes; every tuned form sums over the bands, O(T N^2) instead of
O(T^2 N^2), and differs only in what a platform multiplies fast.
"""

import functools
import operator
from collections.abc import Iterable

import jax
import jax.numpy as jnp

from stg_jax.ops.platform import is_for_cpu

Bands = dict[int, jax.Array]  # k: (B, T, N, N)

_TILE = 64  # up to this many nodes are multiplied as one dense matrix on an accelerator
_FEW = 20  # up to this many senders, explicit sums beat matrix products on a CPU


def matrix_messages(adj_BOO: jax.Array, node_BTND: jax.Array) -> jax.Array:
    """Multiply node states (B, T, N, D) by the adjacency of all nodes: the plain definition."""
    B, T, N, D = node_BTND.shape
    message_BOD = adj_BOO.astype(node_BTND.dtype) @ node_BTND.reshape(B, T * N, D)
    return message_BOD.reshape(B, T, N, D)


def as_matrix(bands: Bands) -> jax.Array:
    """Expand bands to the adjacency matrix of all O = T * N nodes (B, O, O)."""
    B, T, N, _ = next(iter(bands.values())).shape
    # Outer products, but not as einsum: jax2onnx converts those without a sum to invalid programs.
    blocks_BTNTN = _sum(
        band_BTNN[:, :, :, None] * jnp.eye(T, k=offset)[:, None, :, None]
        for offset, band_BTNN in bands.items()
    )
    return blocks_BTNTN.reshape(B, T * N, T * N)


def from_frame(x_BT: jax.Array, offset: int) -> jax.Array:
    """Move frame t + offset of x (B, T, ...) to frame t, zeros from beyond the clip."""
    if offset == 0:
        return x_BT
    zero_B1 = jnp.zeros_like(x_BT[:, :1])
    parts = [x_BT[:, 1:], zero_B1] if offset == 1 else [zero_B1, x_BT[:, :-1]]
    return jnp.concatenate(parts, axis=1)


def messages(bands: Bands, node_BTND: jax.Array) -> jax.Array:
    """Compute `matrix_messages(as_matrix(bands), node_BTND)`, in the dtype of the states."""
    _, T, N, _ = node_BTND.shape
    # From 16 objects a frame on, XLA's matrix product is faster by far.
    if is_for_cpu() and len(bands) * N <= _FEW:
        return _sum_neighbours(bands, node_BTND)
    if T * N <= _TILE:
        # An accelerator multiplies a whole tile, however little of it a frame fills.
        return matrix_messages(as_matrix(bands), node_BTND)
    return _multiply_bands(bands, node_BTND)


def _multiply_bands(bands, node_BTND):
    pairs = [(band_BTNN, from_frame(node_BTND, offset)) for offset, band_BTNN in bands.items()]
    if is_for_cpu() or len(pairs) * node_BTND.shape[2] <= _TILE:
        # One product over all neighbours: several products would each pass over the states.
        weights, nodes = zip(*pairs, strict=True)
        pairs = [(jnp.concatenate(weights, -1), jnp.concatenate(nodes, -2))]
    # On a TPU, copying many neighbours into one array would take longer than adding the products.
    return _sum(
        jnp.einsum('BTNM,BTMD->BTND', weight_BTNM.astype(node_BTMD.dtype), node_BTMD)
        for weight_BTNM, node_BTMD in pairs
    )


# The CPU form. Three convolutions of a clip of 160 frames and 5 objects, forward and backward,
# take 14 ms instead of 29 as batched matrix products (docs/benchmarks.md).


@jax.custom_vjp
def _sum_neighbours(bands, node_BTND):
    """Sum weighted neighbours explicitly: XLA:CPU multiplies matrices this small slowly.

    The sums are inside a branch that is practically always taken. XLA would otherwise fuse the
    states into them, computing the states anew for every message; it does not fuse into a branch.
    """
    is_linked = jnp.stack([jnp.any(band_BTNN != 0) for band_BTNN in bands.values()]).any()
    return jax.lax.cond(is_linked, _all_sums, _zeros, bands, node_BTND)


def _all_sums(bands, node_BTND):
    message_BTND = _sum(
        _band_sum(offset, band_BTNN, node_BTND) for offset, band_BTNN in bands.items()
    )
    return message_BTND.astype(node_BTND.dtype)


def _sum(arrays: Iterable[jax.Array]) -> jax.Array:
    return functools.reduce(operator.add, arrays)


def _band_sum(offset: int, weight_BTNM: jax.Array, node_BTMD: jax.Array) -> jax.Array:
    before, after = max(-offset, 0), max(offset, 0)
    T, M = node_BTMD.shape[1:3]
    weight_BTNM, node_BTMD = weight_BTNM[:, before : T - after], node_BTMD[:, after : T - before]
    sum_BTND = _sum(weight_BTNM[..., m, None] * node_BTMD[:, :, None, m] for m in range(M))
    # Pad the sums and not the states: padding the states would copy them.
    return jnp.pad(sum_BTND, [(0, 0), (before, after), (0, 0), (0, 0)])


def _zeros(bands, node_BTND):
    del bands
    return jnp.zeros_like(node_BTND)


def _forward(bands, node_BTND):
    return _sum_neighbours(bands, node_BTND), (bands, node_BTND)


def _backward(saved, gradient_BTND):
    """Send gradients back along the same links; XLA drops those of the weights where unused."""
    bands, node_BTND = saved
    reversed_bands = {-offset: from_frame(band.mT, -offset) for offset, band in bands.items()}
    bands_gradient = {
        offset: jnp.einsum(
            'BTND,BTMD->BTNM',
            gradient_BTND,
            from_frame(node_BTND, offset),
            preferred_element_type=band_BTNN.dtype,
        )
        for offset, band_BTNN in bands.items()
    }
    return bands_gradient, _sum_neighbours(reversed_bands, gradient_BTND)


_sum_neighbours.defvjp(_forward, _backward)
