import importlib
import json
import subprocess
import sys

import numpy as np
import pytest
from absl.testing import flagsaver

from configs import common
from stg_jax.benchmark import input as input_suite
from stg_jax.benchmark import random_files, timing
from stg_jax.benchmark.timing import table
from stg_jax.cli import app
from stg_jax.commands import benchmark
from stg_jax.data.clip import check_clip
from stg_jax.feature_files.open import open_frames, open_objects
from tests.fakes.fake_run import ROOT


@pytest.fixture
def here(monkeypatch):
    """Let the suite run in this process, which has its libraries loaded, and do little."""

    def call(module, function, *args):
        return timing.Peak(getattr(importlib.import_module(module), function)(*args), 1.0, 2.0)

    for name, value in {
        'in_own_process': call,
        '_ROUNDS': 2,
        '_IMPORTED': 2,
        '_RENDERED': 1,
    }.items():
        monkeypatch.setattr(input_suite, name, value)


def test_the_input_suite_reports_every_stage(here, tmp_path, monkeypatch, capsys):
    out = tmp_path / 'bench.json'
    flags = ['--suite=input', f'--out={out}', '--clips=20']
    monkeypatch.setattr(sys, 'argv', ['benchmark.py', *flags])
    config = common.get_config()
    config.data.update(frames=3, objects=2)
    with flagsaver.flagsaver(config=config), pytest.raises(SystemExit) as ended:
        app.run(benchmark.main)
    assert not ended.value.code
    report, printed = json.loads(out.read_text()), capsys.readouterr().out
    assert report['config']['data']['frames'] == 3 and report['clips'] == 20
    assert 'python' in report['versions'] and '--clips=20' in report['command']
    stages = {stage['stage']: stage for stage in report['stages']}
    assert {'read: bare', 'read: streamed', 'read: cached', 'read: memmap'} < stages.keys()
    for name, stage in stages.items():
        speed = stage['clips_per_s']
        assert 0 < speed['min'] <= speed['median'] <= speed['max'], name
        assert name in printed
    assert stages['read: bare']['to_bare'] == {'median': 1, 'min': 1, 'max': 1}


def test_the_command_starts_without_the_heavy_libraries():
    code = (
        'import sys, stg_jax.commands.benchmark, stg_jax.benchmark.input;'
        'sys.exit(bool({"tensorflow", "jax"} & sys.modules.keys()))'
    )
    assert subprocess.run([sys.executable, '-c', code], cwd=ROOT).returncode == 0


def test_rates_and_ratios_are_taken_round_by_round():
    spread = timing.rate(12, [1.0, 2.0, 4.0])
    assert (spread.median, spread.min, spread.max) == (6, 3, 12)
    # The machine was half as fast in the second round: for both.
    spread = timing.speedup([1.0, 2.0], [3.0, 6.0])
    assert (spread.median, spread.min, spread.max) == (3, 3, 3)


def test_calls_take_turns_after_one_that_does_not_count():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in 'ab'}
    seconds = timing.time_interleaved(calls, 3)
    assert ''.join(order) == 'ab' * 4
    assert [len(seconds[name]) for name in 'ab'] == [3, 3]


def test_the_peak_of_a_call_is_its_own():
    small = timing.in_own_process('builtins', 'len', b'')
    large = timing.in_own_process('tests.benchmark.test_input', 'fill_memory', 300)
    assert small.value == 0
    assert large.value == 300
    assert large.peak_mb - large.before_mb == pytest.approx(300, rel=0.1)


def fill_memory(num_mb):
    return int(np.ones(num_mb * 10**6, np.uint8).sum() // 10**6)


def test_random_clips_can_be_written_and_differ():
    shape = random_files.Shape(3, 2, 8, 6, 5, captions=4)
    one, other = random_files.random_clips(2, shape)
    for clip in (one, other):
        check_clip(clip)
        assert len(clip.captions) == 4
    assert (one.object != other.object).any()


def test_random_files_are_read_by_the_importers(tmp_path, monkeypatch):
    monkeypatch.setattr(random_files, 'REGION_WIDTH', 7)
    random_files.write_frame_file(tmp_path / 'frames.hdf5', 2, 6)
    random_files.write_region_file(tmp_path / 'regions.hdf5', 2)
    with open_frames(str(tmp_path / 'frames.hdf5')) as frames:
        assert frames.read('video1').shape == (random_files.STEPS, 6)
    with open_objects(str(tmp_path / 'regions.hdf5')) as regions:
        found = regions.read(regions.keys[1])
    assert found.mask.all()
    np.testing.assert_allclose(found.box[0, 0], [0.1, 0.2, 0.5, 0.8], rtol=1e-6)


def test_the_table_shows_medians_and_leaves_out_what_nobody_has():
    def spread(*values):
        return dict(zip(('median', 'min', 'max'), values, strict=True))

    lines = table(
        [
            {'stage': 'slow', 'clips_per_s': spread(2.0, 1.0, 3.0), 'peak_mb': 1234.5},
            {'stage': 'once', 'clips_per_s': spread(5, 5, 5), 'frames_per_s': spread(7, 7, 7)},
        ]
    ).splitlines()
    assert lines[0].split() == ['clips/s', 'frames/s', 'MB', 'peak']
    assert lines[1].split() == ['slow', '2', '[1-3]', '-', '1234']
    assert lines[2].split() == ['once', '5', '7', '-']
