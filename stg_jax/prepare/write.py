"""Carry out a data plan: make its clips, write them in order, and list the failures."""

import dataclasses
import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from etils import epath

from stg_jax import files
from stg_jax.cli.progress import progress, say
from stg_jax.data.clip import Clip
from stg_jax.data.manifest import Manifest
from stg_jax.errors import UserError
from stg_jax.prepare.plan import DataPlan
from stg_jax.prepare.resume_store import ClipStore
from stg_jax.prepare.workers import Chunk, Failure, Maker, Request, Result, chunked, make_all

FAILURES = 'failures.json'


@dataclasses.dataclass(frozen=True)
class Runner:
    """Who does the work.

    Attributes:
      workers: processes on this machine; 1 is this process.
      beam: options of an Apache Beam pipeline that makes the clips instead, None for none.
      work_dir: parent of the folder that stores finished clips, by default that of the data folder;
        the workers of a pipeline must reach it.
    """

    workers: int = 1
    beam: Sequence[str] | None = None
    work_dir: str | None = None


def write_data(out: Path, plan: DataPlan, runner: Runner) -> Manifest:
    """Write the data folder `out`, whole or not at all.

    The bytes written depend only on the input, not on the runner. A clip that cannot be made is
    left out, reported, and listed in `out`/failures.json. A split without any clip is left out too,
    except for train. A resumable plan that is run again reuses the clips that were finished before.

    Raises:
      UserError: `out` exists, no clip or no train clip can be made (OUT.failures.json beside `out`
        lists why), or see `records.write_records`.
    """
    # Everything is written into a temporary folder that is renamed at the end: a reader never sees
    # half of a data set, and OUT exists only if it is complete.
    with files.write_folder(out) as folder:
        from stg_jax.data import records  # imports TensorFlow: after the quick checks

        for note in plan.notes:
            say(note)
        store = ClipStore(work_folder(out, runner.work_dir), plan.maker.settings)
        requests = list(itertools.chain.from_iterable(plan.splits.values()))
        # A generator: clips are made while the shards are written, and only a few are in memory.
        results = make_clips(plan, requests, store, runner)
        failures = _Failures(out, len(requests))
        manifest = records.write_records(
            folder,
            {
                split: _clips(split, len(wanted), results, failures)
                for split, wanted in plan.splits.items()
            },
            data_set=plan.data_set,
            extractor=plan.extractor,
            sources=plan.sources,
            missing=plan.missing,
        )
        failures.save(folder / FAILURES)
    store.remove()
    # Printed last, where it is seen: the lines above scroll away.
    if failures.found:
        number = len(failures.found)
        say(f'{number} clips could not be made and are left out: see {out / FAILURES}')
    return manifest


class _Failures:
    """Collects the clips that could not be made, of `total` that were to be written to `out`."""

    def __init__(self, out: Path, total: int):
        self.found: list[Failure] = []
        self._out, self._total = out, total

    def save(self, path: Path) -> None:
        """Write the failures as JSON."""
        files.write_json(path, [dataclasses.asdict(failure) for failure in self.found])

    def leave_out(self, split: str, number: int) -> None:
        """Report that a split lost all its clips; raise if that is train, or all clips failed."""
        none = f'none of the {number} clips of split {split} could be made'
        if split != 'train' and len(self.found) < self._total:
            say(f'{none}: the split is left out')
            return
        # The folder is not written, but the reasons are what the user needs now.
        report = self._out.with_name(f'{self._out.name}.{FAILURES}')  # `out` itself will not appear
        self.save(report)
        raise UserError(f'{none}, the last as {self.found[-1].reason}: see {report}')


def work_folder(out: Path, work_dir: str | None) -> epath.Path:
    """Name a folder that belongs only to `out`, since it is removed once `out` is written."""
    if work_dir is None:
        return epath.Path(out.parent / f'.{out.name}.work')
    # Preparations that share a work_dir may write outputs of one name into different folders.
    digest = hashlib.sha256(os.fspath(out.resolve()).encode()).hexdigest()
    return epath.Path(work_dir) / f'{out.name}-{digest[:8]}.work'


def make_clips(
    plan: DataPlan, requests: Sequence[Request], store: ClipStore, runner: Runner
) -> Iterator[Result]:
    """Yield the result of every request, in order; stored results are read from disk."""
    # Reading feature files again is faster than storing copies of their clips.
    if not plan.resumable and runner.beam is None:
        for results in make_all(plan.maker, chunked(requests), runner.workers):
            yield from results
        return
    store.check_writable()
    if not plan.resumable:
        store.remove()  # an earlier pipeline may have stored clips of files that changed since
    store.forget_failures()
    found = store.find(requests)
    if found:
        say(f'{len(found)} of {len(requests)} clips were finished before: resuming')
    # Chunks are cut from the missing clips only, so that a restart has full chunks as well.
    todo = list(chunked(request for request in requests if request not in found))
    if runner.beam is not None:
        from stg_jax.prepare.beam_runner import make_with_beam

        make_with_beam(plan.maker, todo, store, runner.beam)
        yield from store.load(requests, store.find(requests))
        return
    made = _make_and_store(plan.maker, todo, store, runner.workers)
    # Stored and new clips are interleaved in the order of the requests, because the shards must not
    # depend on where an earlier attempt stopped.
    for finished, group in itertools.groupby(requests, found.__contains__):
        neighbours = list(group)
        if finished:
            yield from store.load(neighbours, found)
        else:
            yield from itertools.islice(made, len(neighbours))


def _make_and_store(
    maker: Maker, chunks: Sequence[Chunk], store: ClipStore, workers: int
) -> Iterator[Result]:
    for chunk, results in zip(chunks, make_all(maker, chunks, workers), strict=True):
        # Stored before it is passed on: whatever happens to the shards, this work is kept.
        store.save(chunk, results)
        yield from results


def _clips(
    split: str, number: int, results: Iterator[Result], failures: _Failures
) -> Iterator[Clip]:
    """Yield the clips among the next `number` results, those of one split; collect failures."""
    before = len(failures.found)
    for result in progress(itertools.islice(results, number), number, f'{split}: done'):
        if isinstance(result, Clip):
            yield result
            continue
        failures.found.append(result)
        say(f'left out {json.dumps(result.clip, ensure_ascii=False)}: {result.reason}')
    if number and len(failures.found) - before == number:
        failures.leave_out(split, number)
