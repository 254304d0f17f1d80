"""Pool feature maps over boxes (RoIAlign) and over the cells of a regular grid."""

import jax
import jax.numpy as jnp
import numpy as np


def roi_align(
    map_FhwC: jax.Array, box_FN4: jax.Array, *, size: int = 7, samples: int = 2
) -> jax.Array:
    """Average a feature map over each box, (F, N, C).

    RoIAlign (He et al., 2017, https://arxiv.org/abs/1703.06870) as torchvision computes it with
    `aligned=True`, averaged over the bins: a box is cut into `size` x `size` bins, each the mean of
    `samples` x `samples` bilinear samples. Map values are at the centres of their cells; outside of
    the outermost centres the map is constant.

    Args:
      map_FhwC: feature maps that cover the whole frame.
      box_FN4: x1 y1 x2 y2 divided by frame width and height, in [0, 1].
      size: bins per side.
      samples: samples per side of a bin.
    """
    height, width = map_FhwC.shape[1:3]
    x1, y1, x2, y2 = jnp.moveaxis(box_FN4, -1, 0)
    # Bilinear sampling is separable: two small matrix products replace the gathers of the usual
    # kernel, and run on any platform.
    row_FNh = _sample_weights(y1, y2, height, size * samples)
    column_FNw = _sample_weights(x1, x2, width, size * samples)
    return _pool(map_FhwC, row_FNh, column_FNw)


def grid_nodes(map_FhwC: jax.Array | np.ndarray, num_objects: int) -> tuple[jax.Array, jax.Array]:
    """Average a feature map over the cells of an R x R grid, R = floor(sqrt(num_objects)).

    Map cells are weighted by their area inside of the grid cell.

    Returns:
      Objects (F, R * R, C), row by row, and their boxes (F, R * R, 4) as in `roi_align`.
    """
    num_frames, height, width, _ = map_FhwC.shape
    # Objects beyond the largest square stay empty.
    side = int(num_objects**0.5)
    edge = jnp.arange(side) / side
    y1, x1 = (corner.ravel() for corner in jnp.meshgrid(edge, edge, indexing='ij'))
    box_N4 = jnp.stack([x1, y1, x1 + 1 / side, y1 + 1 / side], axis=-1)
    box_FN4 = jnp.broadcast_to(box_N4, (num_frames, *box_N4.shape))
    row_FNh = _area_weights(box_FN4[..., 1], box_FN4[..., 3], height)
    column_FNw = _area_weights(box_FN4[..., 0], box_FN4[..., 2], width)
    return _pool(map_FhwC, row_FNh, column_FNw), box_FN4


def pool_to_cells(map_FhwC: np.ndarray, side: int) -> np.ndarray:
    """Average a feature map to at most `side` rows and columns, as many of one as of the other.

    A cell is the mean of all map cells that it touches, as in PyTorch's `adaptive_avg_pool2d`, with
    which feature files are often made.

    Returns:
      (F, G, C) with G = min(side, h, w) ** 2 cells, row by row.
    """
    num_frames, height, width, num_channels = map_FhwC.shape
    side = min(side, height, width)
    rows = [map_FhwC[:, part].mean(axis=1) for part in _touched(height, side)]
    band_FswC = np.stack(rows, axis=1)
    columns = [band_FswC[:, :, part].mean(axis=2) for part in _touched(width, side)]
    return np.stack(columns, axis=2).reshape(num_frames, side * side, num_channels)


def _touched(length: int, parts: int) -> list[slice]:
    """List the cells that each of `parts` equal parts of an axis touches."""
    return [slice(k * length // parts, -(-(k + 1) * length // parts)) for k in range(parts)]


def _pool(map_FhwC: jax.Array | np.ndarray, row_FNh: jax.Array, column_FNw: jax.Array) -> jax.Array:
    """Compute the weighted mean of a map for each pair of row and column weights, (F, N, C)."""
    # Highest precision: with an accelerator's default, bfloat16 or TF32 products, features would
    # depend on the machine that extracted them.
    band_FNwC = jnp.einsum('FNh,FhwC->FNwC', row_FNh, map_FhwC, precision='highest')
    return jnp.einsum('FNw,FNwC->FNC', column_FNw, band_FNwC, precision='highest')


def _sample_weights(low_FN: jax.Array, high_FN: jax.Array, cells: int, samples: int) -> jax.Array:
    """Compute the weight of each cell in the mean of bilinear samples, (F, N, cells).

    The samples form a grid and bilinear weights are products of a row and a column weight, so the
    two axes are handled separately.
    """
    share_S = (jnp.arange(samples) + 0.5) / samples
    place_FNS = low_FN[..., None] + (high_FN - low_FN)[..., None] * share_S
    # In units of cells, with their centres at the integers.
    place_FNS = jnp.clip(place_FNS * cells - 0.5, 0, cells - 1)
    distance_FNSc = jnp.abs(place_FNS[..., None] - jnp.arange(cells))
    return jnp.maximum(1 - distance_FNSc, 0).mean(axis=-2)


def _area_weights(low_FN: jax.Array, high_FN: jax.Array, cells: int) -> jax.Array:
    """Compute the share of each interval that is in each of `cells` cells, (F, N, cells)."""
    edge_c = jnp.arange(cells) / cells
    upper_FNc = jnp.minimum(high_FN[..., None], edge_c + 1 / cells)
    overlap_FNc = jnp.maximum(upper_FNc - jnp.maximum(low_FN[..., None], edge_c), 0)
    return overlap_FNc / overlap_FNc.sum(axis=-1, keepdims=True)
