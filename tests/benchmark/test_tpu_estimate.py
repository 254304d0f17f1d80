"""launch/tpu_estimate.py: topologies, and a small network through the real TPU compiler."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from stg_jax.benchmark.tpu.chips import Topology
from stg_jax.errors import UserError

ROOT = Path(__file__).parents[2]
SMALL = (
    *('model.width=8', 'model.heads=2', 'model.feedforward=8', 'model.encoder_layers=1'),
    *('model.decoder_layers=1', 'model.graph_layers=1', 'data.frames=2', 'data.objects=2'),
    *('data.appearance_dim=8', 'data.motion_dim=8', 'data.object_dim=8', 'data.max_words=3'),
    *('data.captions_per_clip=2', 'train.batch_size=8', 'decode.batch_size=2'),
)


@pytest.mark.parametrize(
    ('text', 'num_chips', 'host_bounds'),
    [('v5e:16x16', 256, [2, 2, 1]), ('v5p:2x2x4', 16, [2, 2, 1]), ('v6e:1x1', 1, [1, 1, 1])],
)
def test_a_topology_is_a_chip_and_a_shape(text, num_chips, host_bounds):
    topology = Topology.parse(text)
    assert (topology.num_chips, topology.host_bounds) == (num_chips, host_bounds)
    assert str(topology) == text


@pytest.mark.parametrize('text', ['v5e', 'v9:2x2', 'v5e:2x2x2', 'v4:4x4', 'v5e:0x4', 'v5e:4'])
def test_what_names_no_topology_is_refused(text):
    with pytest.raises(UserError, match=text):
        Topology.parse(text)


def test_the_time_of_an_all_reduce_follows_from_the_links():
    # 90 GB/s along each of two open axes of four chips, at 45 GB/s a link: 2 * 3/4 of 60 MB.
    assert Topology.parse('v5e:2x2').all_reduce_seconds(60e6) == pytest.approx(1e-3)
    # Axes of 16 close to rings and work in both directions.
    ring, line = Topology.parse('v5e:16x16'), Topology.parse('v5e:8x8')
    assert ring.all_reduce_seconds(180e6) == pytest.approx(2 * 255 / 256 * 1e-3)
    assert line.all_reduce_seconds(180e6) == pytest.approx(2 * 63 / 64 * 2e-3)
    assert Topology.parse('v5e:1x1').all_reduce_seconds(1e9) == 0


def run(*flags):
    command = [sys.executable, 'launch/tpu_estimate.py', '--config', 'configs/common.py', *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_the_tpu_compiler_says_what_a_step_costs(tmp_path):
    if importlib.util.find_spec('libtpu') is None:
        pytest.skip('libtpu, which is the extra [tpu], is not installed')
    out = tmp_path / 'estimate.json'
    small = [f'--config.{change}' for change in SMALL]
    done = run('--topology=v5e:2x2', '--program=train', '--vocab_size=16', f'--out={out}', *small)
    assert done.returncode == 0, done.stderr
    train = json.loads(out.read_text())['train']
    num_params = sum(x['bytes'] * x['times'] for x in train['collectives']) / 4
    assert 1000 < num_params < 10_000  # the gradient goes over the wires once, with three sums
    assert train['cycles'] > 0 and 0 < train['of_peak'] < 1
    assert 0 < train['hbm_gb'] < train['hbm_capacity_gb'] == 16
    assert train['step_ms'] == pytest.approx(train['compute_ms'] + train['all_reduce_ms'])
    assert 'captions/s on all chips' in done.stdout


def test_without_the_compiler_one_sentence_says_what_to_install():
    if importlib.util.find_spec('libtpu') is not None:
        pytest.skip('libtpu is installed')
    done = run('--topology=v5e:2x2')
    assert done.returncode == 2
    assert done.stderr.count('\n') == 1 and "pip install -e '.[tpu]'" in done.stderr
