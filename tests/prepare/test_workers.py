"""Clips come out in order and the same, whoever makes them and whatever was done before."""

import dataclasses
import errno
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from stg_jax import files
from stg_jax.data import records
from stg_jax.errors import UserError
from stg_jax.prepare import workers
from stg_jax.prepare.resume_store import ClipStore
from stg_jax.prepare.workers import Failure, Request, chunked, make_all
from stg_jax.prepare.write import Runner, write_data
from tests.fakes import fake_run
from tests.fakes.contents import contents
from tests.fakes.fake_data import fake_clips
from tests.fakes.fake_makers import DeadlyMaker, NumberMaker
from tests.fakes.fake_plans import NAMES, plan, requests


class Stopped(NumberMaker):
    """Is stopped by its user after two chunks."""

    def make(self, chunk, loaded):
        if self.made == 2:
            raise KeyboardInterrupt
        return super().make(chunk, loaded)


def assert_same_clips(found, expected):
    assert [clip.id for clip in found] == [clip.id for clip in expected]
    for one, other in zip(found, expected, strict=True):
        for field in dataclasses.fields(one):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


def test_processes_make_what_this_one_makes_in_the_same_order():
    here = list(itertools.chain(*make_all(NumberMaker(), chunked(requests()), 1)))
    there = list(itertools.chain(*make_all(NumberMaker(), chunked(requests()), 2)))
    assert [clip.id for clip in here] == NAMES
    assert_same_clips(there, here)


def test_requests_are_asked_for_only_a_little_ahead():
    asked = []

    def endless():
        for rank in itertools.count():
            asked.append(rank)
            yield Request(f'c{rank}', ('a man runs',))

    results = make_all(NumberMaker(), chunked(endless()), 1)
    next(results)
    assert len(asked) <= 3 * workers.CLIPS_PER_CHUNK
    results.close()


@pytest.mark.parametrize('workers', [1, 2])
def test_a_mistake_that_concerns_all_clips_stops_the_work(workers):
    maker = NumberMaker()
    maker.make = None  # not callable: whatever a maker raises comes through
    with pytest.raises(TypeError):
        list(make_all(maker, chunked(requests()), workers))


def test_a_clip_that_kills_its_process_is_a_failure_and_all_others_are_made():
    found = list(itertools.chain(*make_all(DeadlyMaker(['c10']), chunked(requests()), 2)))
    assert [result.clip if isinstance(result, Failure) else result.id for result in found] == NAMES
    (failure,) = [result for result in found if isinstance(result, Failure)]
    assert failure.clip == 'c10' and 'the process that read it died' in failure.reason


def test_processes_that_die_of_every_clip_stop_the_work():
    with pytest.raises(UserError, match=r'died of each of 8 clips from c0 on: .* fewer --workers'):
        list(make_all(DeadlyMaker(NAMES), chunked(requests()), 2))


def kept(store, wanted):
    return list(store.load(wanted, store.find(wanted)))


def test_the_store_gives_back_what_was_kept_in_any_order(tmp_path):
    chunk = requests(['c0', 'c1', 'c2'])
    results = NumberMaker(bad=['c1']).make(chunk, ['c0', 'c1', 'c2'])
    store = ClipStore(tmp_path, {'a': 1})
    store.save(chunk, results)
    found = kept(store, chunk[::-1])
    assert found[1] == results[1] == Failure('c1', '/videos/c1.mp4', '/videos/c1.mp4 is bad')
    assert_same_clips([found[2], found[0]], [results[0], results[2]])
    store.forget_failures()
    assert list(store.find(chunk)) == [chunk[0], chunk[2]]


def test_other_captions_are_no_reason_to_make_a_clip_again(tmp_path):
    chunk = requests(['c0'])
    store = ClipStore(tmp_path, {})
    store.save(chunk, NumberMaker().make(chunk, ['c0']))
    (clip,) = kept(store, requests(['c0'], captions=('a dog barks',)))
    assert clip.captions == ('a dog barks',)


def test_other_settings_or_another_file_are(tmp_path):
    path = tmp_path / 'c0.mp4'
    path.write_text('one')
    chunk = [Request('c0', (), path=str(path))]
    store = ClipStore(tmp_path / 'kept', {'a': 1})
    store.save(chunk, NumberMaker().make(chunk, ['c0']))
    assert store.find(chunk)
    assert not ClipStore(tmp_path / 'kept', {'a': 2}).find(chunk)
    path.write_text('another')
    assert not store.find(chunk)


def test_finished_clips_are_found_again_in_another_list(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write_data(tmp_path / 'out', plan(Stopped()), Runner())
    finished = NAMES[: 2 * workers.CLIPS_PER_CHUNK]
    names = ['c99', *NAMES[3:], 'c98']  # a new clip before all, and three that are gone
    maker = NumberMaker(bad=finished)
    write_data(tmp_path / 'out', plan(maker, names), Runner())
    write_data(tmp_path / 'whole', plan(NumberMaker(), names), Runner())
    assert contents(tmp_path / 'out') == contents(tmp_path / 'whole')


def test_what_failed_in_a_stopped_run_is_tried_again(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write_data(tmp_path / 'out', plan(Stopped(bad=['c1'])), Runner())
    manifest = write_data(tmp_path / 'out', plan(NumberMaker()), Runner())
    assert manifest.splits['train']['clips'] == len(NAMES)


@pytest.mark.parametrize('resumable', [True, False])
def test_the_bytes_do_not_depend_on_the_workers(tmp_path, resumable):
    for num_workers in (1, 2):
        maker = NumberMaker(bad=['c3', 'c20'])
        task = plan(maker, NAMES[:-4], resumable=resumable, val=requests(NAMES[-4:]))
        write_data(tmp_path / f'by{num_workers}', task, Runner(workers=num_workers))
    assert contents(tmp_path / 'by1') == contents(tmp_path / 'by2')
    assert b'c20' in contents(tmp_path / 'by1')['failures.json']
    assert [clip.id for clip in records.read_clips(tmp_path / 'by1', 'val')] == NAMES[-4:]


def test_a_stopped_job_goes_on_where_it_was(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write_data(tmp_path / 'out', plan(Stopped()), Runner())
    assert not (tmp_path / 'out').exists()
    maker = NumberMaker()
    write_data(tmp_path / 'out', plan(maker), Runner())
    assert maker.made == 2  # of four chunks
    write_data(tmp_path / 'whole', plan(NumberMaker()), Runner())
    assert contents(tmp_path / 'out') == contents(tmp_path / 'whole')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['out', 'whole']


def test_a_work_dir_keeps_what_others_have_in_it(tmp_path):
    work_dir = tmp_path / 'work'
    work_dir.mkdir()
    (work_dir / 'thesis.txt').write_text('mine')
    runner = Runner(work_dir=str(work_dir))
    for resumable in (True, False):
        write_data(tmp_path / f'{resumable}', plan(NumberMaker(), resumable=resumable), runner)
    assert contents(work_dir) == {'thesis.txt': b'mine'}


def test_jobs_on_one_work_dir_leave_each_other_alone(tmp_path):
    runner = Runner(work_dir=str(tmp_path / 'work'))
    with pytest.raises(KeyboardInterrupt):
        write_data(tmp_path / 'one' / 'data', plan(Stopped()), runner)
    write_data(tmp_path / 'other' / 'data', plan(NumberMaker()), runner)
    maker = NumberMaker()
    write_data(tmp_path / 'one' / 'data', plan(maker), runner)
    assert maker.made == 2  # of four chunks


def test_failures_are_told_and_the_others_go_on(tmp_path, capsys):
    manifest = write_data(tmp_path / 'out', plan(NumberMaker(bad=['c5'])), Runner())
    assert manifest.splits['train']['clips'] == len(NAMES) - 1
    assert 'left out "c5": /videos/c5.mp4 is bad' in capsys.readouterr().err


def test_nothing_but_a_report_is_written_when_every_train_clip_fails(tmp_path):
    task = plan(NumberMaker(bad=['c0', 'c1']), ['c0', 'c1'], val=requests(['c2']))
    with pytest.raises(UserError, match=r'none of the 2 clips of split train .*c1.mp4 is bad'):
        write_data(tmp_path / 'out', task, Runner())
    assert not (tmp_path / 'out').exists()
    report = files.read_json(tmp_path / 'out.failures.json')
    assert [failure['clip'] for failure in report] == ['c0', 'c1']


def test_a_split_without_any_clip_is_left_out_and_the_others_are_written(tmp_path, capsys):
    task = plan(NumberMaker(bad=['c3']), ['c0'], val=requests(['c3']), test=requests(['c4']))
    manifest = write_data(tmp_path / 'out', task, Runner())
    assert set(manifest.splits) == {'train', 'test'}
    assert 'none of the 1 clips of split val could be made' in capsys.readouterr().err
    (failure,) = files.read_json(tmp_path / 'out' / 'failures.json')
    assert failure['clip'] == 'c3'


def test_a_job_without_train_is_refused_only_when_no_clip_is_left(tmp_path):
    splits = {'val': requests(['c0']), 'test': requests(['c1'])}
    write_data(tmp_path / 'one', plan(NumberMaker(bad=['c0']), [], **splits), Runner())
    with pytest.raises(UserError, match=r'split test .*c1.mp4 is bad: see .*two.failures.json'):
        write_data(tmp_path / 'two', plan(NumberMaker(bad=['c0', 'c1']), [], **splits), Runner())


def test_a_clip_that_cannot_be_written_is_a_failure():
    (clip,) = fake_clips(1)
    clip.appearance[0, 0] = np.nan
    result = workers.attempt(lambda request: clip, Request('c0', (), path='/videos/c0.mp4'))
    assert isinstance(result, Failure) and 'NaN' in result.reason


WAIT = """
import sys
from stg_jax.prepare.workers import Request, chunked, make_all
from tests.fakes.fake_makers import WaitingMaker

if __name__ == '__main__':
    requests = [Request(str(i), ()) for i in range(16)]
    list(make_all(WaitingMaker(sys.argv[1]), chunked(requests), workers=2))
"""


def test_workers_end_when_their_parent_is_killed(tmp_path):
    parent = subprocess.Popen(
        [sys.executable, '-c', WAIT, str(tmp_path)],
        cwd=fake_run.ROOT,
        env=fake_run.environment(),
    )
    wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
    parent.kill()
    parent.wait()
    pids = [int(path.name) for path in tmp_path.iterdir()]
    wait_until(lambda: not any(Path(f'/proc/{pid}').exists() for pid in pids))


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize('content', [b'', b'half a file', b'PK\x03\x04 without a directory'])
def test_a_half_written_file_of_the_work_folder_is_made_again(tmp_path, content):
    with pytest.raises(KeyboardInterrupt):
        write_data(tmp_path / 'out', plan(Stopped()), Runner())
    finished = sorted((tmp_path / '.out.work').glob('*.npz'))
    finished[0].write_bytes(content)
    maker = NumberMaker()
    write_data(tmp_path / 'out', plan(maker), Runner())
    write_data(tmp_path / 'whole', plan(NumberMaker()), Runner())
    assert contents(tmp_path / 'out') == contents(tmp_path / 'whole')
    assert maker.made == 3  # chunks: the damaged one, and the two that were not finished


def test_a_changed_file_of_the_work_folder_stops_one_start_only(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write_data(tmp_path / 'out', plan(Stopped()), Runner())
    first = min((tmp_path / '.out.work').glob('*.npz'))
    changed = bytearray(first.read_bytes())
    changed[200:210] = bytes(10)
    first.write_bytes(changed)
    with pytest.raises(UserError, match=r'was damaged .* is deleted: run the same command again'):
        write_data(tmp_path / 'out', plan(NumberMaker()), Runner())
    write_data(tmp_path / 'out', plan(NumberMaker()), Runner())
    write_data(tmp_path / 'whole', plan(NumberMaker()), Runner())
    assert contents(tmp_path / 'out') == contents(tmp_path / 'whole')


def test_a_full_disk_loses_no_finished_clip(tmp_path, monkeypatch):
    save, saved = ClipStore.save, []

    def save_two(self, chunk, results):
        if len(saved) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), 'a file')
        saved.append(save(self, chunk, results))

    monkeypatch.setattr(ClipStore, 'save', save_two)
    with pytest.raises(OSError, match='No space left'):
        write_data(tmp_path / 'out', plan(NumberMaker()), Runner())
    assert sorted(path.name for path in tmp_path.iterdir()) == ['.out.work']
    monkeypatch.undo()
    maker = NumberMaker()
    write_data(tmp_path / 'out', plan(maker), Runner())
    assert maker.made == 2  # of four chunks


def test_a_work_folder_that_cannot_be_written_is_refused_before_any_clip_is_made(tmp_path):
    maker = NumberMaker()
    with pytest.raises(UserError, match=r'/proc/.* cannot be written'):
        write_data(tmp_path / 'out', plan(maker), Runner(work_dir='/proc/work'))
    assert maker.made == 0 and list(tmp_path.iterdir()) == []
