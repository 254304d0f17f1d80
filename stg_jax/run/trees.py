"""Compare saved trees of arrays with what is expected of them."""

import hashlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

PyTree = Any

_NAMED = 3  # differences of each kind that a message lists


def digest(tree: PyTree) -> str:
    """Hash every bit of every array, in the order of the tree."""
    total = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        # Bytes, not values: NaN differs from itself, and -0.0 equals 0.0.
        total.update(np.asarray(leaf).tobytes())
    return total.hexdigest()


def shapes_by_name(tree: PyTree) -> dict[str, tuple[int, ...]]:
    """Return the shape of every array by its path in the tree, as in 'encoder/dense/kernel'."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {'/'.join(map(_part, path)): tuple(leaf.shape) for path, leaf in leaves}


def describe_misfit(
    saved: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]
) -> str | None:
    """Name the first arrays that are missing, extra or of another shape; None if all fit."""
    differences = {
        'missing': [name for name in wanted if name not in saved],
        'extra': [name for name in saved if name not in wanted],
        'of another shape': [
            f'{name} {_size(saved[name])} instead of {_size(wanted[name])}'
            for name in wanted
            if name in saved and saved[name] != wanted[name]
        ],
    }
    found = [f'{kind}: {_first(names)}' for kind, names in differences.items() if names]
    return '; '.join(found) or None


def _part(key: Any) -> str:
    # Orbax stores the fields of named tuples as keys of a dictionary.
    for attribute in ('key', 'name', 'idx'):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def _size(shape: tuple[int, ...]) -> str:
    return ' x '.join(map(str, shape)) or 'a number'


def _first(names: list[str]) -> str:
    more = f' and {len(names) - _NAMED} more' if len(names) > _NAMED else ''
    return ', '.join(names[:_NAMED]) + more
