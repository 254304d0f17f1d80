"""Messages along the links within a frame and between neighbouring frames.

Weights of links lie in bands: bands[k] (B, T, N, N) has those with which an object of frame t,
a row, receives from the objects of frame t + k, its columns; k is -1, 0 or 1. Weights that would
read beyond the clip are zero.
"""

import jax
import jax.numpy as jnp

from stg_jax.ops.platform import is_for_cpu

Bands = dict[int, jax.Array]  # k: (B, T, N, N)

_TILE = 64  # nodes; so many, of a clip or around a frame, are multiplied as one matrix
_FEW = 20  # senders of a frame and its neighbours; up to so many, sums beat products on a CPU


def messages(bands: Bands, node_BTND: jax.Array) -> jax.Array:
    """Return at every node the sum of weight times sender's state (B, T, N, D), in their dtype."""
    _, T, N, _ = node_BTND.shape
    if is_for_cpu() and len(bands) * N <= _FEW:
        return _summed(bands, node_BTND)
    if T * N <= _TILE:
        # An accelerator multiplies a whole tile, however little of it a frame fills.
        return matrix_messages(as_matrix(bands), node_BTND)
    return _multiplied(bands, node_BTND)


def matrix_messages(adj_BOO: jax.Array, node_BTND: jax.Array) -> jax.Array:
    """Return the same for weights between all O = T * N nodes of a clip."""
    B, T, N, D = node_BTND.shape
    message_BOD = adj_BOO.astype(node_BTND.dtype) @ node_BTND.reshape(B, T * N, D)
    return message_BOD.reshape(B, T, N, D)


def as_matrix(bands: Bands) -> jax.Array:
    """Return the weights between all O = T * N nodes of a clip (B, O, O)."""
    B, T, N, _ = next(iter(bands.values())).shape
    blocks_BTNTN = sum(
        jnp.einsum('BTNM,TU->BTNUM', band_BTNN, jnp.eye(T, k=offset))
        for offset, band_BTNN in bands.items()
    )
    return blocks_BTNTN.reshape(B, T * N, T * N)


def from_frame(x_BT: jax.Array, offset: int) -> jax.Array:
    """Put at frame t what frame t + offset holds, zeros where the clip has none."""
    if offset == 0:
        return x_BT
    nothing_B1 = jnp.zeros_like(x_BT[:, :1])
    parts = [x_BT[:, 1:], nothing_B1] if offset == 1 else [nothing_B1, x_BT[:, :-1]]
    return jnp.concatenate(parts, axis=1)


def _multiplied(bands, node_BTND):
    pairs = [(band_BTNN, from_frame(node_BTND, offset)) for offset, band_BTNN in bands.items()]
    if is_for_cpu() or len(pairs) * node_BTND.shape[2] <= _TILE:
        # As one product over all neighbours: sums of several would be passes over the states.
        weights, nodes = zip(*pairs, strict=True)
        pairs = [(jnp.concatenate(weights, -1), jnp.concatenate(nodes, -2))]
    # On a TPU, copies of many neighbours would take longer than the sums.
    return sum(
        jnp.einsum('BTNM,BTMD->BTND', weight_BTNM.astype(node_BTMD.dtype), node_BTMD)
        for weight_BTNM, node_BTMD in pairs
    )


@jax.custom_vjp
def _summed(bands, node_BTND):
    """Add up scaled states, each read where it lies: products so small cost more than their sums.

    XLA would make the states anew for every message that reads them; it does not reach into a
    branch.
    """
    is_linked = jnp.stack([jnp.any(band_BTNN != 0) for band_BTNN in bands.values()]).any()
    return jax.lax.cond(is_linked, _sums, _no_message, bands, node_BTND)


def _sums(bands, node_BTND):
    message_BTND = sum(_band_sum(*band, node_BTND) for band in bands.items())
    return message_BTND.astype(node_BTND.dtype)


def _band_sum(offset, weight_BTNM, node_BTMD):
    before, after = max(-offset, 0), max(offset, 0)
    T, M = node_BTMD.shape[1:3]
    weight_BTNM, node_BTMD = weight_BTNM[:, before : T - after], node_BTMD[:, after : T - before]
    sum_BTND = sum(weight_BTNM[..., m, None] * node_BTMD[:, :, None, m] for m in range(M))
    # Padded here, and not the states, which would be copied for it.
    return jnp.pad(sum_BTND, [(0, 0), (before, after), (0, 0), (0, 0)])


def _no_message(bands, node_BTND):
    del bands
    return jnp.zeros_like(node_BTND)


def _forward(bands, node_BTND):
    return _summed(bands, node_BTND), (bands, node_BTND)


def _backward(saved, gradient_BTND):
    """Send gradients back along the same links; those of the weights cost nothing if unused."""
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
    return bands_gradient, _summed(reversed_bands, gradient_BTND)


_summed.defvjp(_forward, _backward)
