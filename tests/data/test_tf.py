"""What works where TensorFlow is not installed: all but reading and writing shards."""

import subprocess
import sys

import pytest

from tests.fakes import fake_run


def without_tensorflow(*args):
    done = subprocess.run(
        [sys.executable, '-m', 'tests.fakes.no_tensorflow', *map(str, args)],
        capture_output=True,
        text=True,
        cwd=fake_run.ROOT,
        env=fake_run.environment(),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_only_what_reads_or_writes_shards_needs_tensorflow():
    assert set(without_tensorflow('import_all')) == {
        'stg_jax.benchmark.input_reading',
        'stg_jax.benchmark.input_writing',
        *(f'stg_jax.data.{name}' for name in ('records', 'shards', 'stream', 'tf')),
        'stg_jax.prepare.tfds_builders',
        'stg_jax.prepare.verify.scan',
        'stg_jax.prepare.verify.verify',
    }


@pytest.mark.slow
def test_features_are_captioned_without_tensorflow(tmp_path):
    [printed] = without_tensorflow('caption', tmp_path / 'run')
    assert printed.startswith('[') and printed.endswith(']')


def test_captions_are_scored_without_tensorflow():
    assert [float(line) for line in without_tensorflow('score')] == pytest.approx([100])
