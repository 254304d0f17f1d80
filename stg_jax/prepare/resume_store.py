"""Finished clips on disk, from which a stopped extraction resumes."""

import dataclasses
import hashlib
import itertools
import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from stg_jax.data.clip import Clip
from stg_jax.errors import UserError
from stg_jax.files import check_writable, read_json, write_file, write_json
from stg_jax.prepare.workers import Chunk, Failure, Request, Result

_ARRAYS = (
    *('appearance', 'motion', 'object', 'box'),
    *('score', 'label', 'object_mask', 'true_box'),
)
_OPTIONAL = ('grid',)
_FACTS = ('fps', 'height', 'width')
# Hexadecimal digits. File names may have 255 bytes, and 8 keys of 15 digits fit. 60 bits make a
# collision among a million clips unlikely (5e-7).
_KEY = 15
# What NumPy and zipfile raise for files that are truncated or changed.
_DAMAGED = (ValueError, KeyError, IndexError, TypeError, EOFError, OSError, zipfile.BadZipFile)

# Where a finished clip is: the file, and its rank in that file.
Place = tuple[epath.Path, int]


class ClipStore:
    """A folder of finished clips, on a disk or in a bucket; each file holds those of a chunk.

    A clip is identified by the settings that made it and by name, size and modification time of its
    video file. A changed file or setting is therefore extracted again, whatever other clips are
    requested. The name of a file lists the keys of its clips, so that one look at the folder finds
    all of them. Captions are not stored: they come from the request, so correcting one is free.
    """

    def __init__(self, folder: str | os.PathLike[str], settings: Mapping[str, Any]):
        self._folder = epath.Path(folder)
        self._settings = dict(settings)

    def check_writable(self) -> None:
        """Check that clips can be stored, before the first one is made.

        Raises:
          UserError: the folder cannot be written.
        """
        check_writable(self._folder / 'clips.npz')

    def find(self, requests: Iterable[Request]) -> dict[Request, Place]:
        """Map those requests that have a stored result to its place.

        A file that was written halfway, as a full disk or a lost machine leave it, is deleted.
        """
        place_of = {}
        for suffix in ('.json', '.npz'):  # a clip takes precedence over an earlier failure
            for path in self._paths(suffix):
                if suffix == '.npz' and not _is_archive(path):
                    path.unlink()
                    continue
                keys = path.name.removesuffix(suffix)
                for rank in range(len(keys) // _KEY):
                    place_of[keys[rank * _KEY : (rank + 1) * _KEY]] = path, rank
        key_of = {request: self._key(request) for request in requests}
        return {request: place_of[key] for request, key in key_of.items() if key in place_of}

    def load(self, requests: Iterable[Request], found: Mapping[Request, Place]) -> Iterator[Result]:
        """Yield the results of requests that were found, opening a file once for neighbours.

        Raises:
          UserError: a file is damaged; it is deleted, so that its clips are made again next time.
        """
        # Neighbours are usually in one file, because chunks were cut from the same order of
        # requests.
        for path, group in itertools.groupby(requests, lambda request: found[request][0]):
            ranks = {request: found[request][1] for request in group}
            load = _load_failures if path.suffix == '.json' else _load_clips
            try:
                results = load(path, ranks)
            except (UserError, *_DAMAGED) as error:
                path.unlink()
                raise UserError(
                    f'{path} was damaged ({error}) and is deleted: run the same command again'
                ) from None
            yield from results

    def save(self, chunk: Chunk, results: Sequence[Result]) -> None:
        """Store the results of a chunk; its files appear whole or not at all."""
        made, failed = [], []
        for request, result in zip(chunk, results, strict=True):
            (made if isinstance(result, Clip) else failed).append((self._key(request), result))
        if made:
            arrays = {
                f'{rank}.{name}': getattr(clip, name)
                for rank, (_, clip) in enumerate(made)
                for name in (*_ARRAYS, *_OPTIONAL)
                if getattr(clip, name) is not None
            }
            facts = [{name: getattr(clip, name) for name in _FACTS} for _, clip in made]
            # Uncompressed: float features shrink by less than a tenth, at many times the cost.
            path = self._folder / f'{"".join(key for key, _ in made)}.npz'
            with write_file(path) as temporary, temporary.open('wb') as file:
                np.savez(file, facts=np.array(json.dumps(facts)), **arrays)
        if failed:
            path = self._folder / f'{"".join(key for key, _ in failed)}.json'
            write_json(path, [dataclasses.asdict(failure) for _, failure in failed])

    def forget_failures(self) -> None:
        """Delete stored failures: their cause may be gone without any change of the video file."""
        for path in self._paths('.json'):
            path.unlink()

    def remove(self) -> None:
        """Delete the folder."""
        if self._folder.exists():
            self._folder.rmtree()

    def _paths(self, suffix: str) -> list[epath.Path]:
        paths = self._folder.iterdir() if self._folder.exists() else ()
        return [path for path in paths if path.suffix == suffix]

    def _key(self, request: Request) -> str:
        text = json.dumps(
            [self._settings, request.clip_id, *_file_stamp(request.path)], sort_keys=True
        )
        return hashlib.sha256(text.encode()).hexdigest()[:_KEY]


def _file_stamp(path: str) -> tuple[str, int, float]:
    """Return path, size and modification time of a file; zeros if it is gone or not given."""
    # A missing file gets a key as well; making its clip then fails and is listed.
    if not path or not epath.Path(path).exists():
        return path, 0, 0
    # The content is not hashed: reading every video again would take minutes for a data set.
    stat = epath.Path(path).stat()
    return path, stat.length, stat.mtime


def _is_archive(path: epath.Path) -> bool:
    """Find out whether a file has the directory that a zip archive ends with."""
    try:
        with path.open('rb') as file, zipfile.ZipFile(file):
            return True
    except _DAMAGED:
        return False


def _load_clips(path: epath.Path, ranks: Mapping[Request, int]) -> list[Result]:
    with path.open('rb') as file, np.load(file, allow_pickle=False) as arrays:
        facts = json.loads(str(arrays['facts']))
        return [
            Clip(
                id=request.clip_id,
                captions=request.captions,
                source=request.source,
                **{name: arrays[f'{rank}.{name}'] for name in _ARRAYS},
                **{n: arrays[f'{rank}.{n}'] for n in _OPTIONAL if f'{rank}.{n}' in arrays},
                **facts[rank],
            )
            for request, rank in ranks.items()
        ]


def _load_failures(path: epath.Path, ranks: Mapping[Request, int]) -> list[Result]:
    failures = read_json(path)
    return [Failure(**failures[rank]) for rank in ranks.values()]
