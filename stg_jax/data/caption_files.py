"""The captions of a data folder, which a vocabulary is built from without reading features."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from etils import epath

from stg_jax.data.manifest import Manifest
from stg_jax.errors import UserError


def append_captions(
    folder: str | os.PathLike[str], split: str, clip_id: str, captions: Sequence[str]
) -> None:
    """Add the captions of one more clip to those of a split."""
    with _path(folder, split).open('a', encoding='utf-8') as lines:
        lines.write(json.dumps([clip_id, captions], ensure_ascii=False) + '\n')


def read_captions(data_dir: str | os.PathLike[str], split: str) -> dict[str, list[str]]:
    """Return the captions of every clip of a split, in the order of the shards.

    The shards themselves are not looked at.

    Raises:
      UserError: the folder, the split or its captions file is missing or broken.
    """
    folder = open_folder(data_dir)
    path, splits = _path(folder, split), Manifest.load(folder).splits
    if split not in splits:
        raise no_split(folder, split, splits)
    try:
        captions = dict(map(json.loads, path.read_text(encoding='utf-8').splitlines()))
    except FileNotFoundError:
        raise UserError(f'{path} is missing: prepare the data again') from None
    except (TypeError, ValueError) as error:
        raise UserError(f'{path} is damaged: prepare the data again ({error})') from None
    if len(captions) != splits[split]['clips']:
        raise UserError(
            f'{path} names {len(captions)} clips, but the manifest {splits[split]["clips"]}: '
            'prepare the data again'
        )
    return captions


def open_folder(data_dir: str | os.PathLike[str]) -> epath.Path:
    """Return the path of a data folder.

    Raises:
      UserError: there is none.
    """
    folder = epath.Path(data_dir)
    if not data_dir or not folder.is_dir():
        raise UserError(
            f'the data folder {str(data_dir)!r} does not exist, seen from {Path.cwd()}: start from '
            'where it does, or write one with launch/prepare.py and train with '
            '--config.data.dir=FOLDER'
        )
    return folder


def no_split(folder: epath.Path, name: str, known: Sequence[str]) -> UserError:
    """Return what is to be said of a split that a data folder does not have."""
    return UserError(f'{folder} has no split {name!r}: it holds {", ".join(known)}')


def _path(folder: str | os.PathLike[str], split: str) -> epath.Path:
    return epath.Path(folder) / f'captions-{split}.jsonl'
