"""metrics.jsonl: what a resumed run keeps of it, and what happens when it cannot be written."""

import json
import math
import shutil
import time

import pytest

from stg_jax.errors import UserError
from stg_jax.train.log import MetricsLog, ProgressLine, Stopwatch


def test_a_resumed_run_keeps_the_lines_up_to_its_step_and_drops_damaged_ones(tmp_path):
    path = tmp_path / 'metrics.jsonl'
    lines = [b'{"step": 1}', b'[2]', b'{"loss": 1}', b'{"step": "x"}', b'\xff', b'{"step": 2}']
    path.write_bytes(b'\n'.join([*lines, b'{"step": 3}', b'{"step": 4, "lo']))
    MetricsLog(path, 2, active=True).write({'step': 3, 'loss': math.nan})
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert abs(found[-1].pop('time') - time.time()) < 60
    assert found == [{'step': 1}, {'step': 2}, {'step': 3, 'loss': None}]


def test_other_hosts_write_nothing(tmp_path):
    MetricsLog(tmp_path / 'metrics.jsonl', 0, active=False).write({'step': 1})
    assert not list(tmp_path.iterdir())


def test_a_deleted_run_folder_is_one_sentence(tmp_path):
    run = tmp_path / 'run'
    run.mkdir()
    log = MetricsLog(run / 'metrics.jsonl', 0, active=True)
    log.write({'step': 1})
    shutil.rmtree(run)
    with pytest.raises(UserError, match='run was deleted while the run was training'):
        log.write({'step': 2})


def test_a_log_that_cannot_be_written_is_one_sentence(tmp_path):
    log = MetricsLog(tmp_path / 'metrics.jsonl', 0, active=True)
    (tmp_path / 'metrics.jsonl').mkdir()
    with pytest.raises(UserError, match=r'metrics\.jsonl cannot be written \(Is a directory\)'):
        log.write({'step': 1})


@pytest.fixture
def clock():
    """Return a clock that is set by hand."""

    class Clock:
        now = 0.0

        def __call__(self):
            return self.now

    return Clock()


def test_speed_and_eta_are_those_of_the_clock_that_omits_compilation(clock, capsys):
    watch, line = Stopwatch(clock), ProgressLine(30, 10, clock, active=True)
    clock.now += 4
    watch.stepped(100)
    speed = watch.read()
    assert speed == {'captions_per_second': 25, 'data_wait': 0}
    line.show(12, 1, {'loss': 1.0} | speed)
    assert 'step 12/30  epoch 1  loss 1.000  25 captions/s' in (shown := capsys.readouterr().err)
    assert shown.endswith('ETA 0:00:36\n') and line.epoch == 1


def test_a_log_file_names_a_compilation_once_and_a_terminal_each_one(monkeypatch, capsys):
    for terminal, number in ((False, 1), (True, 2)):
        monkeypatch.setattr('sys.stderr.isatty', lambda terminal=terminal: terminal)
        line = ProgressLine(30, 10, active=True)
        line.compiling()
        line.compiling()
        assert capsys.readouterr().err.count('compiling (about a minute)') == number
