"""A training and a preparation that are stopped again and again end as if they never were.

STG_JAX_KILLS=50 python -m pytest -n 0 -m slow tests/commands/test_kills.py
"""

import json
import os
import shutil

import jax
import numpy as np
import pytest

from stg_jax.run.build import build_model, param_shapes
from stg_jax.run.checkpoint import restore_params
from stg_jax.run.folder import RunFolder
from tests.fakes import fake_data, fake_run
from tests.fakes.contents import contents
from tests.fakes.fake_world import write_world
from tests.fakes.kills import run_with_kills, small_disk

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get('STG_JAX_KILLS', 8))
EPOCHS_A_KILL, VIDEOS_A_KILL = 2, 12  # enough that the last kill still finds work


@pytest.fixture
def disk(tmp_path):
    """Return a folder, and the function that fills its disk or None."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    with small_disk(folder) as fill:
        yield folder, fill


def parameters(workdir):
    run = RunFolder.open(workdir)
    shapes = param_shapes(build_model(run.config, run.manifest, run.vocab), run.config.data)
    return restore_params(run.checkpoints, shapes, 'latest')


def log(workdir):
    """Return the losses and scores of a run, without how long they took."""
    rows = map(json.loads, (workdir / 'metrics.jsonl').read_text().splitlines())
    return [{key: row.get(key) for key in ('step', 'loss', 'val_loss', 'CIDEr')} for row in rows]


def test_a_training_that_is_stopped_again_and_again_ends_bit_for_bit_alike(tmp_path, disk):
    folder, fill = disk
    data = fake_data.fake_data_folder(tmp_path, train=13)
    config = fake_run.tiny_config(
        data, train__epochs=EPOCHS_A_KILL * KILLS, train__checkpoint_steps=2, train__ema=0.9
    )
    flags = fake_run.as_flags(config)
    whole = fake_run.run('train', *flags, f'--workdir={tmp_path / "whole"}', timeout=900)
    assert whole.returncode == 0, whole.stderr
    arguments = [*flags, f'--workdir={folder / "run"}']
    run_with_kills(
        'train', arguments, count=KILLS, seed=0, marks=('step ', 'step ', 'epoch '), fill=fill
    )
    found, expected = parameters(folder / 'run'), parameters(tmp_path / 'whole')
    assert found[1] == expected[1]
    jax.tree.map(np.testing.assert_array_equal, found[0], expected[0])
    assert log(folder / 'run') == log(tmp_path / 'whole')


def test_a_preparation_that_is_stopped_again_and_again_ends_bit_for_bit_alike(tmp_path, disk):
    folder, fill = disk
    kills = max(1, 2 * KILLS // 5)
    captions, videos = write_world(tmp_path, num=VIDEOS_A_KILL * kills)
    arguments = ['own', f'--annotations={captions}', f'--videos={videos}', '--extractor=pixels']
    arguments += ['--workers=1']
    whole = fake_run.run('prepare', *arguments, f'--out={tmp_path / "whole"}', timeout=900)
    assert whole.returncode == 0, whole.stderr
    stopped = [*arguments, f'--out={folder / "data"}']
    run_with_kills('prepare', stopped, count=kills, seed=1, marks=(), fill=fill)
    assert contents(folder / 'data') == contents(tmp_path / 'whole')
    shutil.rmtree(folder / 'data')
    assert list(folder.iterdir()) == []
