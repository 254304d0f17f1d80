"""Finished chunks of clips on disk, so that a stopped extraction goes on where it was."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from stg_jax.data.clip import Clip
from stg_jax.files import write_file
from stg_jax.prepare.work import Chunk, Failure, Result

_ARRAYS = (
    *('appearance', 'motion', 'object', 'box'),
    *('score', 'label', 'object_mask', 'true_box'),
)


class ChunkStore:
    """A folder with one file per finished chunk, on a disk or in a bucket.

    A chunk is found again by the settings that made it and by names, sizes and times of its video
    files, so a changed file or setting is extracted anew. Captions are not kept: they come from
    the request, and correcting one costs nothing.
    """

    def __init__(self, folder: str | os.PathLike[str], settings: Mapping[str, Any]):
        self._folder = epath.Path(folder)
        self._settings = dict(settings)

    def holds(self, chunk: Chunk) -> bool:
        """Tell whether a chunk is finished."""
        return self._path(chunk).exists()

    def load(self, chunk: Chunk) -> list[Result]:
        """Return the results of a finished chunk."""
        with (
            self._path(chunk).open('rb') as file,
            np.load(file, allow_pickle=False) as arrays,
        ):
            facts = json.loads(str(arrays['facts']))
            return [
                _read(request, arrays, rank, fact)
                for rank, (request, fact) in enumerate(zip(chunk, facts, strict=True))
            ]

    def save(self, chunk: Chunk, results: list[Result]) -> None:
        """Keep the results of a chunk; the file appears whole or not at all."""
        arrays = {
            f'{rank}.{name}': getattr(result, name)
            for rank, result in enumerate(results)
            if isinstance(result, Clip)
            for name in _ARRAYS
        }
        facts = json.dumps(list(map(_facts, results)))
        with write_file(self._path(chunk)) as temporary, temporary.open('wb') as file:
            np.savez(file, facts=facts, **arrays)

    def remove(self) -> None:
        """Delete the folder."""
        if self._folder.exists():
            self._folder.rmtree()

    def _path(self, chunk: Chunk) -> epath.Path:
        files = [(request.clip_id, *_file_stamp(request.path)) for request in chunk]
        text = json.dumps([self._settings, files], sort_keys=True)
        return self._folder / f'{hashlib.sha256(text.encode()).hexdigest()[:32]}.npz'


def _file_stamp(path: str) -> tuple[str, int, int]:
    """Return path, bytes and time of change of a file, zeros where it is gone or not given."""
    if not path or not epath.Path(path).exists():
        return path, 0, 0
    stat = epath.Path(path).stat()
    return path, stat.length, stat.mtime


def _facts(result: Result) -> dict[str, Any]:
    if isinstance(result, Failure):
        return dataclasses.asdict(result)
    return {name: getattr(result, name) for name in ('fps', 'height', 'width')}


def _read(request: Any, arrays: Mapping[str, np.ndarray], rank: int, fact: dict) -> Result:
    if 'reason' in fact:
        return Failure(**fact)
    return Clip(
        id=request.clip_id,
        captions=request.captions,
        source=request.source,
        **{name: arrays[f'{rank}.{name}'] for name in _ARRAYS},
        **fact,
    )
