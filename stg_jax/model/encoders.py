"""Encode the features of a clip as the sequences that decoders read: frames, cells or objects."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from stg_jax.errors import UserError
from stg_jax.model.graph import GraphConv, ObjectGraph
from stg_jax.ops.dense import Dense


@dataclasses.dataclass(frozen=True)
class Layout:
    """Positions of a sequence in time; static, the same for all clips of a batch.

    Attributes:
      num_frames: T.
      time: (S,) the place of each position in time; modulo T it is the first frame described.
      span: (S,) how many frames in a row each position describes.
    """

    num_frames: int
    time: tuple[int, ...]
    span: tuple[int, ...]

    @classmethod
    def of_frames(cls, num_frames: int, num_vectors: int = 1) -> 'Layout':
        """Describe `num_vectors` sequences of frame vectors, one after another."""
        length = num_frames * num_vectors
        return cls(num_frames, tuple(range(length)), (1,) * length)

    @classmethod
    def of_parts(cls, num_frames: int, num_parts: int, span: int = 1) -> 'Layout':
        """Describe groups of `span` frames by `num_parts` positions each, group by group."""
        time = np.repeat(np.arange(0, num_frames, span), num_parts)
        return cls(num_frames, tuple(time.tolist()), (span,) * len(time))

    def followed_by(self, other: 'Layout', *, same_time: bool) -> 'Layout':
        """Describe this sequence and another one behind it, at the same times or at later ones."""
        # Later by a multiple of T: the two parts differ in time, but describe the same frames.
        shift = 0 if same_time else (max(self.time) // self.num_frames + 1) * self.num_frames
        time = self.time + tuple(time + shift for time in other.time)
        return Layout(self.num_frames, time, self.span + other.span)

    @property
    def is_frame(self) -> np.ndarray:
        """Return True where a position describes a frame, (S, T)."""
        first_S1 = np.array(self.time)[:, None] % self.num_frames
        frame_T = np.arange(self.num_frames)
        return (first_S1 <= frame_T) & (frame_T < first_S1 + np.array(self.span)[:, None])


class GridEncoder(nn.Module):
    """Turn the cells of each frame into tokens.

    A token sees its cell in `num_frames` frames in a row. Each pooling halves both sides of the
    grid, see `pool_cells`; without poolings every cell becomes a token. Learned positions of the
    tokens within the frame are added at the end.
    """

    width: int
    num_frames: int
    num_poolings: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, grid_BTGC: jax.Array) -> jax.Array:
        """Map cells (B, T, G, Cg), row by row, to tokens (B, ceil(T / num_frames), P, D)."""

        def layer(x_BTGC, name):
            return nn.relu(Dense(self.width, dtype=self.dtype, name=name)(x_BTGC))

        # Embedded before any pooling, so that the color and the motion of a cell stay together: a
        # convolution over raw cells would add up those of neighbors and lose which belong together.
        x_BTGD = layer(_joined_frames(grid_BTGC, self.num_frames), 'embed')
        for number in range(self.num_poolings):
            x_BTGD = layer(pool_cells(x_BTGD), f'pool_{number}')
        # As large as the activations, so that position and content weigh alike from the start.
        init = nn.initializers.normal(1.0)
        position_GD = self.param('position', init, (x_BTGD.shape[2], self.width))
        return x_BTGD + position_GD.astype(self.dtype)


def _joined_frames(x_BTGC, num_frames):
    """Concatenate the channels of `num_frames` frames in a row; the last group is zero-padded."""
    B, T, G, C = x_BTGC.shape
    x_BTGC = jnp.pad(x_BTGC, [(0, 0), (0, -T % num_frames), (0, 0), (0, 0)])
    # A token that sees its cell in several frames also sees the motion between them.
    x_BTFGC = x_BTGC.reshape(B, -1, num_frames, G, C)
    return x_BTFGC.swapaxes(2, 3).reshape(B, -1, G, num_frames * C)


def pool_cells(x_BTGD: jax.Array) -> jax.Array:
    """Take the maximum over the 3 x 3 cells around every second cell of every second row.

    Of 7 x 7 cells these are 3 x 3 neighborhoods, which cover all cells. An even side is padded with
    zeros: for cells that are not negative, which the output of a ReLU is not, they change nothing.

    Returns:
      (B, T, (side // 2) ** 2, D).
    """
    B, T, G, D = x_BTGD.shape
    side = math.isqrt(G)
    x_BTHWD = x_BTGD.reshape(B, T, side, side, D)
    # The rows first, then the columns: XLA's maximum over windows, and its gradient, take forty
    # times as long on a CPU.
    for axis in (2, 3):
        x_BTHWD = _maximum_of_three(x_BTHWD, axis)
    return x_BTHWD.reshape(B, T, (side // 2) ** 2, D)


def _maximum_of_three(x, axis):
    """Take the maximum of every second element along an axis and its two neighbors."""
    side = x.shape[axis]
    if side % 2 == 0:
        x = jnp.pad(x, [(0, int(i == axis)) for i in range(x.ndim)])
    last = 2 * (side // 2) - 1
    parts = [lax.slice_in_dim(x, i, i + last, stride=2, axis=axis) for i in range(3)]
    return functools.reduce(jnp.maximum, parts)


def check_grid(num_cells: int, num_poolings: int) -> None:
    """Check that a number of cells makes a square grid that is large enough for the poolings.

    Raises:
      UserError: it does not.
    """
    side = math.isqrt(num_cells)
    if not num_cells or side**2 != num_cells:
        raise UserError(
            f"config.model.scene_tokens = 'grid' needs a square number of cells, but "
            f'config.data.grid_cells is {num_cells}: set it and config.data.grid_dim to what the '
            'data folder holds (launch/verify.py DATA_DIR shows it)'
        )
    if side >> num_poolings == 0:
        raise UserError(
            f'config.model.grid_poolings is {num_poolings}, but {side} x {side} cells can be '
            f'halved {side.bit_length() - 1} times'
        )


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
    """Graph convolutions over the objects of a clip, from H0 = object @ Wo without a bias.

    Given boxes, H0 also has a linear embedding of their corners and sizes.
    """

    width: int
    num_layers: int
    norm: str  # see `GraphConv`
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, object_BTNC: jax.Array, graph: ObjectGraph, box_BTN4: jax.Array | None = None
    ) -> jax.Array:
        """Compute the states (B, T, N, D) of all nodes, absent ones included."""

        def embed(x_BTNC, name):
            return Dense(self.width, use_bias=False, dtype=self.dtype, name=name)(x_BTNC)

        node_BTND = embed(object_BTNC, 'embed')
        if box_BTN4 is not None:
            # The graph only uses overlaps of boxes; the nodes need the places themselves.
            size_BTN2 = box_BTN4[..., 2:] - box_BTN4[..., :2]
            place_BTN6 = jnp.concatenate([box_BTN4, size_BTN2], -1).astype(self.dtype)
            node_BTND += embed(place_BTN6, 'box')
        for layer in range(self.num_layers):
            conv = GraphConv(self.width, self.norm, self.dtype, name=f'graph_{layer}')
            node_BTND = conv(node_BTND, graph)
        return node_BTND


def mean_of_objects(node_BTND: jax.Array, mask_BTN: jax.Array) -> jax.Array:
    """Average the present objects of each frame (B, T, D); zero for a frame without objects."""
    # The count, not N: absent objects must not pull the mean towards zero.
    count_BT1 = mask_BTN.sum(-1, keepdims=True)
    weight_BTN = (mask_BTN / jnp.maximum(count_BT1, 1)).astype(node_BTND.dtype)
    return jnp.einsum('BTN,BTND->BTD', weight_BTN, node_BTND)
