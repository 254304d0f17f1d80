"""The HTTP interface: answers, refusals, back pressure, metrics."""

import asyncio
import concurrent.futures
import socket
import threading
import time

import numpy as np
import pytest

from stg_jax.decode.candidates import best_candidates
from stg_jax.errors import UserError
from stg_jax.extract.video.untrusted import Limits
from tests.fakes import fake_data
from tests.fakes.fake_service import fake_video_captioner, features_of, npz
from tests.fakes.fake_video import grey_ramp, write_video

pytest.importorskip('prometheus_client', reason='the extra serve is absent')
from fastapi import HTTPException
from fastapi.testclient import TestClient

from stg_jax.serve import app as server

LIMITS = Limits(seconds=4.5, megabytes=0.5)
VIDEO, FEATURES = '/v1/captions/video', '/v1/captions/features'
(CLIP,) = fake_data.fake_clips(1)


def make_service(max_waiting=8):
    return server.Service(fake_video_captioner(), LIMITS, max_batch=2, max_waiting=max_waiting)


@pytest.fixture(scope='module')
def client():
    with TestClient(server.build_app(make_service())) as client:
        yield client


def test_features_get_the_captions_of_the_whole_beam(client):
    answer = client.post(FEATURES, content=npz(**features_of(CLIP)))
    assert answer.status_code == 200
    (expected,) = best_candidates(fake_video_captioner(), [CLIP])
    found = [(each['caption'], each['score']) for each in answer.json()['captions']]
    assert [caption for caption, _ in found] == [each.caption for each in expected]
    np.testing.assert_allclose(
        [score for _, score in found], [each.score for each in expected], atol=1e-3
    )
    assert (answer.json()['caption'], answer.json()['score']) == found[0]
    assert answer.json()['explanation'] is answer.json()['page'] is None


def test_a_video_gets_its_captions_and_times(client, tmp_path):
    path = write_video(tmp_path / 'film.mp4', grey_ramp())
    answer = client.post(VIDEO, content=path.read_bytes()).json()
    assert (answer['start'], answer['end']) == (0, 4)
    assert answer['captions'][0]['caption'] == answer['caption']
    assert {'embed', 'caption'} <= answer['seconds'].keys()


def test_an_explanation_comes_as_data_or_as_a_page(client):
    body = npz(**features_of(CLIP))
    data = client.post(f'{FEATURES}?explain=data', content=body).json()
    assert ' '.join(data['explanation']['words']) == data['caption']
    page = client.post(f'{FEATURES}?explain=page', content=body).json()
    assert page['page'].startswith('<!') and page['explanation'] is None
    assert client.post(f'{FEATURES}?explain=all', content=body).status_code == 422


@pytest.fixture(scope='module')
def bomb(tmp_path_factory):
    """Return a small archive of a huge array of zeros."""
    path = tmp_path_factory.mktemp('bomb') / 'bomb.npz'
    np.savez_compressed(path, appearance=np.zeros((10_000, 1000), np.float32))
    assert path.stat().st_size < 1e5
    return path.read_bytes()


def test_features_that_cannot_be_used_are_refused_with_a_sentence(client, bomb):
    good = features_of(CLIP)
    scene = {name: good[name] for name in ('appearance', 'motion')}
    for body, part in (
        (b'', 'is empty'),
        (b'PK is not enough', 'damaged'),
        (npz(appearance=good['appearance']), "lack 'motion'"),
        (npz(**scene | {'motion': scene['motion'][:2]}), 'this run reads numbers of shape (4, 6)'),
        (npz(**scene | {'motion': np.full((4, 6), 'x')}), 'this run reads numbers'),
        (npz(**scene | {'motion': np.full((4, 6), np.nan)}), 'NaN'),
        (npz(**scene | {'motion': np.array([print], object)}), 'Python objects'),
        (npz(**good | {'box': good['box'] + 2}), 'box leaves [0, 1]'),
        (bomb, 'unpacks to more than'),
    ):
        answer = client.post(FEATURES, content=body)
        assert answer.status_code == 422, part
        assert part in answer.json()['detail']
        assert '/' not in answer.json()['detail']
    assert client.post(FEATURES, content=npz(**scene)).status_code == 200


def test_videos_that_cannot_be_used_are_refused_with_a_sentence(client, tmp_path):
    long = write_video(tmp_path / 'long.mp4', grey_ramp(50, step=1)).read_bytes()
    for body, part in ((b'no video', 'no readable video'), (long, 'lasts 5 s and 4.5 s')):
        answer = client.post(VIDEO, content=body)
        assert (answer.status_code, part in answer.json()['detail']) == (422, True)
        assert str(tmp_path.parent) not in answer.json()['detail']
    answer = client.post(VIDEO, content=bytes(600_000))
    assert (answer.status_code, answer.json()['detail']) == (
        413,
        'the video is larger than 0.5 MB: cut it or make it smaller',
    )


def test_health_metrics_and_the_page_of_the_api(client):
    client.post(FEATURES, content=npz(**features_of(CLIP)))
    client.post(FEATURES, content=b'')
    assert client.get('/health').json() == {'is_alive': True, 'run': 'run', 'step': 7}
    text = client.get('/metrics').text
    counted = dict(line.rsplit(' ', 1) for line in text.splitlines() if line[0] != '#')
    for status in (200, 422):
        assert float(counted[f'stg_requests_total{{endpoint="features",status="{status}"}}']) >= 1
    assert counted['stg_requests_in_progress'] == '0.0'
    assert float(counted['stg_batch_clips_sum']) >= 1
    paths = client.get('/openapi.json').json()['paths']
    assert {VIDEO, FEATURES, '/health', '/metrics'} == set(paths)
    assert '503' in paths[VIDEO]['post']['responses']


def test_more_requests_than_may_wait_are_asked_to_come_back():
    service = make_service(max_waiting=1)
    gate = threading.Event()
    read = service.read_features
    service.read_features = lambda path: (gate.wait(), read(path))[1]
    body = npz(**features_of(CLIP))
    with (
        TestClient(server.build_app(service)) as client,
        concurrent.futures.ThreadPoolExecutor() as pool,
    ):
        first = pool.submit(client.post, FEATURES, content=body)
        while not service.metrics.registry.get_sample_value('stg_requests_in_progress'):
            time.sleep(0.01)
        refused = client.post(FEATURES, content=body)
        assert refused.status_code == 503
        assert int(refused.headers['Retry-After']) >= 1
        gate.set()
        assert first.result().status_code == 200
        assert client.post(FEATURES, content=body).status_code == 200


class Client:
    """A client that closes the connection at once."""

    async def receive(self):
        return {'type': 'http.disconnect'}


def test_the_question_of_a_client_that_left_is_not_answered():
    question = concurrent.futures.Future()
    with pytest.raises(HTTPException):
        asyncio.run(server._unless_gone(Client(), question))
    assert question.cancelled()


def test_a_port_in_use_is_reported_in_one_sentence():
    with socket.create_server(('127.0.0.1', 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f'127.0.0.1:{port} cannot be used'):
            server.serve(make_service(), '127.0.0.1', port)
