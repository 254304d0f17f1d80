"""Arrange the objects of a clip as a `Clip` holds them: T frames, the best N of each."""

import numpy as np

from stg_jax.data.clip import no_objects
from stg_jax.data.importers.sources import Objects


def best_objects(objects: Objects, index_T: np.ndarray, num_objects: int) -> dict[str, np.ndarray]:
    """Return the object arrays of a `Clip`: the best `num_objects` of T steps.

    Args:
      objects: of S steps.
      index_T: (T,) the steps that stand for the frames, see `sampling.sample_index`.
      num_objects: N; objects of equal score stay in the file's order.

    Returns:
      `object`, `box`, `score`, `label` and `object_mask`, (T, N, ...), real objects first.
    """
    score = np.where(objects.mask, objects.score, -np.inf)[index_T]
    order = np.argsort(-score, axis=1, kind='stable')[:, :num_objects]
    arrays = no_objects(len(index_T), num_objects, objects.feature.shape[-1])
    kinds = {'object': 'feature', 'object_mask': 'mask'}
    for name, array in arrays.items():
        values = getattr(objects, kinds.get(name, name))
        array[:, : order.shape[1]] = values[index_T[:, None], order]
    return arrays
