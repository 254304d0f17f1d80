"""Annotation files of data sets: the captions of every clip and the split it belongs to."""

import os
from collections.abc import Callable

from stg_jax.data.text import normalise
from stg_jax.datasets import msrvtt, msvd, own
from stg_jax.datasets.base import Annotations
from stg_jax.errors import UserError

__all__ = ['Annotations', 'read_annotations']

_READ = {'msvd': msvd.read, 'msrvtt': msrvtt.read, 'own': own.read}


def read_annotations(
    data_set: str, path: str | os.PathLike[str], clean: Callable[[str], str] = normalise
) -> Annotations:
    """Read the annotations of 'msvd', 'msrvtt' or one's 'own' clips from a file or folder.

    Captions are normalised, or what else `clean` makes of them: scores need them as written.

    Raises:
      UserError: the data set is another one, or its files are missing or broken.
    """
    if data_set not in _READ:
        raise UserError(f'there are no annotations of {data_set!r}: use {", ".join(_READ)}')
    return _READ[data_set](path, clean)
