"""The table of data sets, whose annotation files give the captions and the split of every clip.

`DATASETS` is the only table of them. Commands, `inspect_file.py`, the references of scores
and the TFDS builders all read it: a new data set is one module with `read` and `recognizes`, and
one row.
"""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from stg_jax.data.text import normalise
from stg_jax.datasets import msrvtt, msvd, own, vatex
from stg_jax.datasets.base import Annotations, Clean
from stg_jax.errors import UserError


class Read(Protocol):
    """Reads annotations from a file or folder; captions as `clean` makes them."""

    def __call__(self, path: str | os.PathLike[str], clean: Clean = normalise) -> Annotations:
        """Read the annotations at `path`."""
        ...


@dataclasses.dataclass(frozen=True)
class DataSet:
    """One row of `DATASETS`.

    Attributes:
      read: reads its annotations.
      recognizes: whether a file or folder seems to be its annotations, from names and first lines.
      annotations: what --annotations names, for the help of commands.
      suffixes: of files that are meant as its annotations even where nothing is recognized.
      config: name of the file in configs/ to train with.
    """

    read: Read
    recognizes: Callable[[Path], bool]
    annotations: str
    suffixes: tuple[str, ...]
    config: str = 'own'


# The first row that recognizes a file has it: `own` takes every CSV, `msrvtt` every JSON file.
DATASETS = {
    'msvd': DataSet(
        read=msvd.read,
        recognizes=msvd.recognizes,
        annotations=(
            'a folder with sents_{train,val,test}_lc_nopunc.txt and youtube_mapping.txt, with '
            'AllVideoDescriptions.txt, or with the corpus as *.csv'
        ),
        suffixes=('.txt',),
        config='msvd',
    ),
    'vatex': DataSet(
        read=vatex.read,
        recognizes=vatex.recognizes,
        annotations='a folder of vatex_*.json, plain or zipped, or one of these files',
        suffixes=(),
    ),
    'msrvtt': DataSet(
        read=msrvtt.read,
        recognizes=msrvtt.recognizes,
        annotations=(
            'videodatainfo JSON files or COCO-style ones, plain or zipped, in one folder or as '
            'one file'
        ),
        suffixes=('.json', '.zip'),
        config='msrvtt',
    ),
    'own': DataSet(
        read=own.read,
        recognizes=own.recognizes,
        annotations=(
            'CSV or JSONL with clip, caption and perhaps split; else clips are divided 80/10/10'
        ),
        suffixes=('.csv', '.jsonl'),
    ),
}


def read_annotations(
    data_set: str, path: str | os.PathLike[str], clean: Clean = normalise
) -> Annotations:
    """Read the annotations of a data set from a file or folder.

    Args:
      data_set: a name of `DATASETS`.
      path: of the file or folder.
      clean: applied to every caption; scores need them as written.

    Raises:
      UserError: the data set is unknown, or its files are missing or broken.
    """
    if data_set not in DATASETS:
        raise UserError(f'there are no annotations of {data_set!r}: use {", ".join(DATASETS)}')
    # The most frequent mistake is the right file under the wrong name of a data set.
    try:
        return DATASETS[data_set].read(path, clean)
    except UserError as error:
        other = find_data_set(path)
        if other in (None, data_set) or not _is_recognized(other, path):
            raise
        raise UserError(f'{error}; it looks like annotations of {other}: prepare {other}') from None


def find_data_set(path: str | os.PathLike[str]) -> str | None:
    """Name the data set whose annotations a file or folder seems to be, None for none."""
    path = Path(path)
    if not path.exists():
        return None
    # Content before suffixes: a .json file may be of two data sets, a folder has no suffix.
    for name in DATASETS:
        if _is_recognized(name, path):
            return name
    suffix = path.suffix.lower()
    return next((name for name, row in DATASETS.items() if suffix in row.suffixes), None)


def _is_recognized(name: str, path: str | os.PathLike[str]) -> bool:
    return DATASETS[name].recognizes(Path(path))
