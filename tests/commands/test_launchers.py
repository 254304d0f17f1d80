"""Scripts that start a training on clusters: what they run, and when they run it again."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
POD, GKE = ROOT / 'launch/tpu_pod/run.sh', ROOT / 'launch/gke/run.sh'
SLURM = ROOT / 'launch/slurm/train.sbatch'
RANGES, WHEEL = ROOT / '.ci' / 'ranges', ROOT / '.ci' / 'wheel'
ON_POD = ['--name=slice', '--zone=zone-a', '--type=v5litepod-16', '--repo=https://example.org/r']
ON_GKE = ['--name=run1', '--image=host/a:b', '--accelerator=tpu-v5-lite-podslice']
ON_GKE += ['--topology=4x4', '--hosts=4', '--chips=4']
ODD = ['--config', 'configs/msvd.py', '--workdir', 'gs://b/it\'s "here" $HOME']


def apart(flags):
    """Return flags as the scripts read them: a value is a word of its own."""
    return [word for flag in flags for word in flag.split('=', 1)]


def run(script, *words, **env):
    command = ['bash', script, *words]
    return subprocess.run(
        command, capture_output=True, text=True, env=os.environ | env, timeout=60, cwd=ROOT
    )


def commands(done):
    """Return the words of every command that a dry run printed."""
    assert done.returncode == 0, done.stderr
    return [shlex.split(line.replace("$'", "'")) for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize(
    'script', [POD, GKE, SLURM, RANGES, WHEEL], ids=lambda path: str(path.relative_to(ROOT))
)
def test_bash_can_read_it(script):
    subprocess.run(['bash', '-n', script], check=True)


def test_a_dry_run_on_slurm_prints_what_each_process_runs():
    starts, again = commands(run(SLURM, '--dry-run', *ODD, SLURM_JOB_ID='7'))
    assert starts[0] == 'srun' and starts[-5:] == ['--multihost', *ODD]
    assert again == ['scontrol', 'requeue', '7']


@pytest.mark.parametrize(
    ('code', 'restarts', 'requeued'),
    [(75, 0, True), (137, 0, True), (75, 3, False), (0, 0, False), (2, 0, False)],
)
def test_slurm_queues_the_job_again_when_it_was_saved_or_lost(tmp_path, code, restarts, requeued):
    asked = tmp_path / 'asked'
    programs = {'srun': f'exit {code}', 'scontrol': f'echo "$@" > {asked}'}
    path = fake_programs(tmp_path, programs)
    env = {'SLURM_JOB_ID': '7', 'SLURM_RESTART_COUNT': str(restarts), 'MAX_RESTARTS': '3'}
    assert run(SLURM, *ODD, PATH=path, **env).returncode == code
    assert asked.exists() == requeued


def fake_programs(folder, programs):
    """Return a PATH on which some programs are shell scripts."""
    bin_folder = folder / 'bin'
    bin_folder.mkdir()
    for name, text in programs.items():
        (bin_folder / name).write_text(f'#!/usr/bin/env bash\n{text}\n')
        (bin_folder / name).chmod(0o755)
    return f'{bin_folder}:{os.environ["PATH"]}'


def test_a_dry_run_on_gke_prints_a_job_set_with_the_flags_as_they_are():
    done = run(GKE, *apart(ON_GKE), '--dry-run', '--', *ODD)
    assert done.returncode == 0, done.stderr
    start, end = (
        done.stdout.index('apply -f -') + len('apply -f -'),
        done.stdout.index('kubectl wait'),
    )
    job_set = yaml.safe_load(done.stdout[start:end])
    assert '{' not in done.stdout[start:end].replace('{}', '')
    spec = job_set['spec']['replicatedJobs'][0]['template']['spec']
    pod = spec['template']['spec']
    assert job_set['metadata']['name'] == 'run1' and spec['completions'] == spec['parallelism'] == 4
    assert pod['nodeSelector']['cloud.google.com/gke-tpu-topology'] == '4x4'
    [container] = pod['containers']
    assert container['args'] == ODD and container['image'] == 'host/a:b'
    assert container['resources']['limits'] == {'google.com/tpu': 4}
    # Exit 2 ends everything, any other failure starts all pods again.
    [rule] = spec['podFailurePolicy']['rules']
    assert rule['action'] == 'FailJob' and rule['onExitCodes']['values'] == [2]
    assert rule['onExitCodes']['containerName'] == container['name']
    assert job_set['spec']['failurePolicy'] == {
        'maxRestarts': 20,
        'rules': [{'action': 'FailJobSet', 'onJobFailureReasons': ['PodFailurePolicy']}],
    }


def test_a_dry_run_on_a_pod_prints_every_command():
    done = run(POD, *apart(ON_POD), '--spot', '--dry-run', '--', *ODD)
    assert done.returncode == 0, done.stderr
    of_tpu = 'gcloud compute tpus tpu-vm '
    lines = [line.removeprefix(of_tpu) for line in done.stdout.splitlines() if line]
    assert [line.split()[0] for line in lines] == ['describe', 'create', 'ssh', 'ssh', 'ssh']
    assert '--accelerator-type=v5litepod-16' in lines[1] and '--spot' in lines[1]
    assert all(line.endswith('--zone=zone-a ') for line in lines)


GCLOUD = """
echo "$4 $6" >> calls
case "$4" in
  describe) cat state ;;
  create) echo READY > state ;;
  delete) echo > state ;;
  ssh) case "$7" in *'git clone'*) ;; *) cd home && eval "${7#--command=}" ;; esac ;;
esac
"""
# Ends as the next line of `codes` says.
PYTHON = """
printf '%s\\n' "$@" > arguments
echo training
code=$(head -n 1 codes) && sed -i 1d codes && exit "$code"
"""


@pytest.fixture
def cluster(tmp_path):
    """Return a function that runs run.sh against one worker that is a folder."""
    checkout = tmp_path / 'home/stg_jax'
    (checkout / '.venv/bin').mkdir(parents=True)
    python = checkout / '.venv/bin/python'
    python.write_text(f'#!/usr/bin/env bash{PYTHON}')
    python.chmod(0o755)
    path = fake_programs(tmp_path, {'gcloud': GCLOUD, 'curl': 'echo 0'})

    def train(state, *codes):
        (tmp_path / 'state').write_text(state)
        (checkout / 'codes').write_text('\n'.join(map(str, codes)))
        done = subprocess.run(
            ['bash', POD, *apart(ON_POD), '--pause', '0', '--attempts', '3', '--', *ODD],
            capture_output=True,
            text=True,
            env=os.environ | {'PATH': path},
            cwd=tmp_path,
            timeout=60,
        )
        calls = [line.split()[0] for line in (tmp_path / 'calls').read_text().splitlines()]
        return done, [call for call in calls if call in ('create', 'delete')], checkout

    return train


def test_a_run_that_saved_or_lost_a_worker_is_started_again_with_the_same_flags(cluster):
    done, changes, checkout = cluster('READY', 75, 137, 0)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('training') == 3 and not changes
    assert (checkout / 'arguments').read_text().splitlines() == [
        *('launch/train.py', '--multihost'),
        *ODD,
    ]


@pytest.mark.parametrize(
    ('state', 'changes'), [('', ['create']), ('PREEMPTED', ['delete', 'create']), ('READY', [])]
)
def test_a_slice_is_made_where_there_is_none(cluster, state, changes):
    done, made, _ = cluster(state, 0)
    assert done.returncode == 0 and made == changes


def test_a_mistake_of_the_user_ends_at_once_and_attempts_are_bounded(cluster):
    done, _, _ = cluster('READY', 2, 0)
    assert done.returncode == 2 and done.stdout.count('training') == 1
    done, _, _ = cluster('READY', 75, 75, 75, 0)
    assert done.returncode == 2 and 'gave up after 3 attempts' in done.stderr


@pytest.mark.parametrize('script', [POD, GKE], ids=['pod', 'gke'])
@pytest.mark.parametrize(
    ('words', 'message'),
    [(['--nam', 'x'], 'unknown flag --nam'), (['--name'], 'needs a value'), ([], 'is missing')],
)
def test_a_mistaken_flag_is_one_sentence(script, words, message):
    done = run(script, *words)
    assert done.returncode == 2 and message in done.stderr
    assert done.stderr.count('\n') == 1
