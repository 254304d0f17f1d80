"""Carry out a job: its clips made by workers, written in order, its failures told."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from etils import epath

from stg_jax import files
from stg_jax.data.clip import Clip
from stg_jax.data.manifest import Manifest
from stg_jax.errors import UserError
from stg_jax.prepare.job import Job
from stg_jax.prepare.progress import progress, say
from stg_jax.prepare.store import ChunkStore
from stg_jax.prepare.work import Chunk, Failure, Result, chunked, make_all

FAILURES = 'failures.json'


@dataclasses.dataclass(frozen=True)
class Runner:
    """Who does the work.

    Attributes:
      workers: processes on this machine; 1 is this one.
      beam: options of an Apache Beam pipeline that does it instead, None for none.
      work_dir: in which finished chunks are kept, in a folder of their own, by default beside the
        data folder; the workers of a pipeline must reach it.
    """

    workers: int = 1
    beam: Sequence[str] | None = None
    work_dir: str | None = None


def write_job(out: Path, job: Job, runner: Runner) -> Manifest:
    """Write the data folder `out`, whole or not at all.

    The bytes depend on the input alone, not on the runner. A clip that cannot be made is told,
    listed in `out`/failures.json and left out; so is a split without any clip, but for train. When
    a resumable job is stopped and run again, the chunks that it finished are not made again.

    Raises:
      UserError: `out` exists, no clip or no train clip can be made (OUT.failures.json beside `out`
        lists why), or see `records.write_records`.
    """
    with files.write_folder(out) as folder:
        from stg_jax.data import records  # after the checks, so that a mistake shows at once

        for note in job.notes:
            say(note)
        store = ChunkStore(_work_folder(out, runner.work_dir), job.maker.settings)
        chunks = {split: list(chunked(requests)) for split, requests in job.splits.items()}
        results = _make(job, [c for split in chunks.values() for c in split], store, runner)
        failures = _Failures(out, sum(map(len, job.splits.values())))
        manifest = records.write_records(
            folder,
            {split: _clips(split, chunks[split], results, failures) for split in chunks},
            data_set=job.data_set,
            extractor=job.extractor,
            sources=job.sources,
            missing=job.missing,
        )
        failures.save(folder / FAILURES)
    store.remove()
    if failures.found:
        number = len(failures.found)
        say(f'{number} clips could not be made and are left out: see {out / FAILURES}')
    return manifest


class _Failures:
    """The clips that could not be made, of `total` that shall be written to `out`."""

    def __init__(self, out: Path, total: int):
        self.found: list[Failure] = []
        self._out, self._total = out, total

    def save(self, path: Path) -> None:
        """Write them down as JSON."""
        files.write_json(path, list(map(dataclasses.asdict, self.found)))

    def leave_out(self, split: str, number: int) -> None:
        """Say that none of the clips of a split could be made; refuse to go on without train."""
        none = f'none of the {number} clips of split {split} could be made'
        if split != 'train' and len(self.found) < self._total:
            say(f'{none}: the split is left out')
            return
        report = self._out.with_name(f'{self._out.name}.{FAILURES}')  # `out` itself will not appear
        self.save(report)
        raise UserError(f'{none}, the last as {self.found[-1].reason}: see {report}')


def _work_folder(out: Path, work_dir: str | None) -> epath.Path:
    """Return a folder that is ours alone, as it is removed when `out` is written."""
    if work_dir is None:
        return epath.Path(out.parent / f'.{out.name}.work')
    # Jobs that share a work_dir may have outputs of one name in different folders.
    digest = hashlib.sha256(os.fspath(out.resolve()).encode()).hexdigest()
    return epath.Path(work_dir) / f'{out.name}-{digest[:8]}.work'


def _make(
    job: Job, chunks: list[Chunk], store: ChunkStore, runner: Runner
) -> Iterator[list[Result]]:
    """Yield the results of every chunk, in order, those that are kept from disk."""
    if not job.resumable and runner.beam is None:
        yield from make_all(job.maker, chunks, runner.workers)
        return
    if not job.resumable:
        store.remove()  # what an earlier pipeline left may be of files that changed since
    done = set(map(id, filter(store.holds, chunks)))
    if done:
        say(f'{len(done)} of {len(chunks)} chunks were finished before: going on')
    todo = [chunk for chunk in chunks if id(chunk) not in done]
    if runner.beam is not None:
        from stg_jax.prepare.beam import make_with_beam

        make_with_beam(job.maker, todo, store, runner.beam)
        yield from map(store.load, chunks)
        return
    made = make_all(job.maker, todo, runner.workers)
    for chunk in chunks:
        if id(chunk) in done:
            yield store.load(chunk)
        else:
            results = next(made)
            store.save(chunk, results)
            yield results


def _clips(
    split: str, chunks: list[Chunk], results: Iterator[list[Result]], failures: _Failures
) -> Iterator[Clip]:
    """Yield the clips of one split; collect those that failed."""
    number = sum(map(len, chunks))
    flat = (result for _ in chunks for result in next(results))
    before = len(failures.found)
    for result in progress(flat, number, f'{split}: done'):
        if isinstance(result, Clip):
            yield result
            continue
        failures.found.append(result)
        say(f'left out {json.dumps(result.clip, ensure_ascii=False)}: {result.reason}')
    if number and len(failures.found) - before == number:
        failures.leave_out(split, number)
