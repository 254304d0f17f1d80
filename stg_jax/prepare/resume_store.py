"""Finished clips on disk, so that a stopped extraction goes on where it was."""

import dataclasses
import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from stg_jax.data.clip import Clip
from stg_jax.files import read_json, write_file, write_json
from stg_jax.prepare.workers import Chunk, Failure, Request, Result

_ARRAYS = (
    *('appearance', 'motion', 'object', 'box'),
    *('score', 'label', 'object_mask', 'true_box'),
)
_OPTIONAL = ('grid',)
_FACTS = ('fps', 'height', 'width')


# Place of a finished clip: the file, and its rank in there.
Place = tuple[epath.Path, int]

_KEY = 15  # hexadecimal digits: the keys of a chunk fit in a file name


class ClipStore:
    """A folder of finished clips, on a disk or in a bucket; one file holds those of a chunk.

    A clip is found again by the settings that made it and by name, size and time of its video
    file, so a changed file or setting is extracted anew, whatever other clips are asked for.
    The keys of the clips in a file are its name: a look at the folder finds them all. Captions are
    not kept: they come from the request, and correcting one costs nothing.
    """

    def __init__(self, folder: str | os.PathLike[str], settings: Mapping[str, Any]):
        self._folder = epath.Path(folder)
        self._settings = dict(settings)

    def find(self, requests: Iterable[Request]) -> dict[Request, Place]:
        """Return where the results of those requests are that have one."""
        place_of = {}
        for suffix in ('.json', '.npz'):  # a clip counts more than an earlier failure
            for path in self._paths(suffix):
                keys = path.name.removesuffix(suffix)
                for rank in range(len(keys) // _KEY):
                    place_of[keys[rank * _KEY : (rank + 1) * _KEY]] = path, rank
        key_of = {request: self._key(request) for request in requests}
        return {request: place_of[key] for request, key in key_of.items() if key in place_of}

    def load(self, requests: Iterable[Request], found: Mapping[Request, Place]) -> Iterator[Result]:
        """Yield the results of requests that were found, opening a file once for neighbours."""
        for path, group in itertools.groupby(requests, lambda request: found[request][0]):
            ranks = {request: found[request][1] for request in group}
            yield from _load_failures(path, ranks) if path.suffix == '.json' else _load(path, ranks)

    def save(self, chunk: Chunk, results: Sequence[Result]) -> None:
        """Keep the results of a chunk; its files appear whole or not at all."""
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
            path = self._folder / f'{"".join(key for key, _ in made)}.npz'
            with write_file(path) as temporary, temporary.open('wb') as file:
                np.savez(file, facts=json.dumps(facts), **arrays)
        if failed:
            path = self._folder / f'{"".join(key for key, _ in failed)}.json'
            write_json(path, [dataclasses.asdict(failure) for _, failure in failed])

    def forget_failures(self) -> None:
        """Let what failed be tried again: its cause may be gone with no change of the file."""
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


def _file_stamp(path: str) -> tuple[str, int, int]:
    """Return path, bytes and time of change of a file, zeros where it is gone or not given."""
    if not path or not epath.Path(path).exists():
        return path, 0, 0
    stat = epath.Path(path).stat()
    return path, stat.length, stat.mtime


def _load(path: epath.Path, ranks: Mapping[Request, int]) -> Iterator[Clip]:
    with path.open('rb') as file, np.load(file, allow_pickle=False) as arrays:
        facts = json.loads(str(arrays['facts']))
        for request, rank in ranks.items():
            yield Clip(
                id=request.clip_id,
                captions=request.captions,
                source=request.source,
                **{name: arrays[f'{rank}.{name}'] for name in _ARRAYS},
                **{n: arrays[f'{rank}.{n}'] for n in _OPTIONAL if f'{rank}.{n}' in arrays},
                **facts[rank],
            )


def _load_failures(path: epath.Path, ranks: Mapping[Request, int]) -> Iterator[Failure]:
    failures = read_json(path)
    return (Failure(**failures[rank]) for rank in ranks.values())
