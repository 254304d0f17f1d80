"""The server as a process of its own, under the load of fifty clients at a time.

`pytest tests/serve/test_load.py -s` prints the figures of docs/serve.md.
"""

import concurrent.futures
import contextlib
import http.client
import json
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from configs import toy
from stg_jax.api import load
from stg_jax.config import parse_config
from stg_jax.prepare.toy import prepare_toy
from tests.fakes import fake_run
from tests.fakes.fake_service import features_of, npz
from tests.fakes.untrained_run import untrained_run

pytest.importorskip('prometheus_client', reason='the extra serve is absent')
CLIENTS, REQUESTS, WAITING = 50, 10, 24  # fewer may wait than there are clients: some must retry


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """Return the folder of an untrained run on a toy world of a few clips."""
    folder = tmp_path_factory.mktemp('load')
    config = toy.get_config()
    config.update_from_flattened_dict(fake_run.SMALL | {'data.dir': str(folder / 'data')})
    sizes = {'num_frames': config.data.frames, 'num_objects': config.data.objects}
    clips = {'train': 6, 'val': 2}
    prepare_toy(
        folder / 'data', num_clips=clips, world=parse_config(config).toy, workers=1, **sizes
    )
    return untrained_run(folder / 'run', config)


@contextlib.contextmanager
def serving(run):
    """Start a server on a free port; yield its port and what ends it as a service manager does."""
    command = fake_run.command('serve', run, '--port=0', f'--max_waiting={WAITING}')
    options = {'cwd': fake_run.ROOT, 'env': fake_run.environment(), 'text': True}
    with subprocess.Popen(command, stdout=subprocess.PIPE, **options) as process:
        try:
            address = next(line for line in process.stdout if line.startswith('http'))
            port = int(address.split('/docs')[0].rpartition(':')[2])
            while not get(port, '/health'):
                time.sleep(0.1)
            yield port, lambda: process.send_signal(signal.SIGTERM)
            assert process.wait(60) == -signal.SIGTERM
        finally:
            process.kill()


def get(port, path):
    """Return the text of a page, None as long as nobody listens."""
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=60)
    with contextlib.closing(connection), contextlib.suppress(ConnectionRefusedError):
        connection.request('GET', path)
        return connection.getresponse().read().decode()


def ask(port, kind, body):
    """Ask until there is an answer; return it, its seconds and how often the server was busy."""
    start, refusals = time.monotonic(), 0
    while True:
        connection = http.client.HTTPConnection('127.0.0.1', port, timeout=120)
        connection.request('POST', f'/v1/captions/{kind}', body)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if answer.status != 503:
            assert answer.status == 200, content
            return json.loads(content)['caption'], time.monotonic() - start, refusals
        refusals += 1
        time.sleep(int(answer.headers['Retry-After']))


def figures(kind, answers, seconds):
    """Print what docs/serve.md reports."""
    latency = np.percentile([each[1] for each in answers], [50, 99])
    print(
        f'\n{kind}: {len(answers)} answers in {seconds:.1f} s, {len(answers) / seconds:.0f}/s, '
        f'median {latency[0]:.2f} s, 99 % {latency[1]:.2f} s, '
        f'{sum(each[2] for each in answers)} times busy'
    )


@pytest.mark.slow
@pytest.mark.parametrize(('kind', 'each'), [('features', REQUESTS), ('video', 1)])
def test_fifty_clients_lose_no_request(run, kind, each):
    captioner = load(run)
    films = sorted(Path(captioner.run.config.data.dir, 'videos').rglob('*.mp4'))
    if kind == 'video':
        bodies = [film.read_bytes() for film in films]
    else:
        bodies = [npz(**features_of(captioner.extractor.extract(film))) for film in films]
    expected = [captioner.caption(film) for film in films]
    with serving(run) as (port, end), concurrent.futures.ThreadPoolExecutor(CLIENTS) as clients:
        start = time.monotonic()
        jobs = [
            clients.submit(ask, port, kind, bodies[i % len(bodies)]) for i in range(CLIENTS * each)
        ]
        answers = [job.result() for job in jobs]
        figures(kind, answers, time.monotonic() - start)
        end()
    assert [caption for caption, *_ in answers] == [
        expected[i % len(expected)] for i in range(len(answers))
    ]
    assert any(refusals for *_, refusals in answers)


@pytest.mark.slow
def test_requests_that_are_inside_are_answered_before_the_end(run):
    film = next(Path(load(run).run.config.data.dir, 'videos').rglob('*.mp4')).read_bytes()
    with serving(run) as (port, end), concurrent.futures.ThreadPoolExecutor(3) as clients:
        jobs = [clients.submit(ask, port, 'video', film) for _ in range(3)]
        while 'stg_requests_in_progress 3.0' not in get(port, '/metrics'):
            assert not any(job.done() for job in jobs)
        end()
        assert len({job.result()[0] for job in jobs}) == 1
