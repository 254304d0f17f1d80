"""The web demo: through its client as a program, in headless Chromium as a person."""

import concurrent.futures
import json
import multiprocessing
import os
import shutil
import signal
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from stg_jax.captioning import web_demo
from stg_jax.captioning.explained import in_frame
from stg_jax.captioning.web_demo import build_demo, launch_demo
from stg_jax.errors import UserError
from stg_jax.extract.video.untrusted import Limits, read_untrusted
from stg_jax.visualize.explanation_page import render_page
from tests.fakes.fake_report import ATTACK, fake_entry
from tests.fakes.fake_video import grey_ramp, write_video

LIMITS = Limits(seconds=4.5, megabytes=0.5)


def caption(path):
    """Answer without a model, with texts that try to break out of the page."""
    read_untrusted(path, {'num_frames': 2}, LIMITS)
    return f'a caption {ATTACK}', render_page([fake_entry()])


@pytest.fixture(scope='module')
def film(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp('samples') / 'film.mp4', grey_ramp(size=(64, 64)))


@pytest.fixture(scope='module')
def address(film):
    pytest.importorskip('gradio', reason='gradio is absent')
    demo = build_demo(caption, [film], LIMITS)
    options = {'host': '127.0.0.1', 'port': None, 'samples': [film], 'limits': LIMITS}
    _, address, _ = launch_demo(demo, **options, prevent_thread_lock=True, quiet=True)
    yield address
    demo.close()


@pytest.fixture(scope='module')
def client(address):
    from gradio_client import Client

    return Client(address, verbose=False)


def ask(client, path):
    from gradio_client import handle_file

    return client.predict(handle_file(str(path)), api_name='/caption')


def test_a_video_gets_its_caption_and_the_report_in_a_frame(client, film):
    text, mistake, page = ask(client, film)
    assert mistake == ''
    assert text == f'a caption {ATTACK}'
    assert page == in_frame(render_page([fake_entry()]))
    assert 'sandbox="allow-scripts"' in page and '<script' not in page


def test_a_caption_without_words_is_explained(tmp_path):
    page = render_page([fake_entry(words=())])
    text, alert, report = web_demo._answer(lambda path: ('', page), str(tmp_path / 'film.mp4'))
    assert text == '(no words)'
    assert 'the network took the end to be more likely than any first word' in alert
    assert report == in_frame(page)


def test_mistakes_are_messages_that_keep_the_folders_of_the_server(client, tmp_path):
    bad = tmp_path / 'b&d.mp4'
    bad.write_bytes(b'no video')
    for path, part in (
        (bad, 'is no readable video'),
        (write_video(tmp_path / 'long.mp4', grey_ramp(50, step=1)), 'lasts 5 s and 4.5 s'),
    ):
        text, mistake, page = ask(client, path)
        assert text == page == ''
        assert mistake.startswith('<p role="alert"') and part in mistake
        assert '/' not in mistake.removesuffix('</p>') and 'b&d' not in mistake
    _, mistake, _ = client.predict(None, api_name='/caption')
    assert 'pick a sample first' in mistake


def test_a_large_file_is_refused_before_it_is_opened(tmp_path):
    path = tmp_path / 'large.mp4'
    path.write_bytes(bytes(600_000))
    with pytest.raises(UserError, match=r'larger than 0\.5 MB'):
        LIMITS.check(path)


class FewPixels(Limits):
    pixels = 20 * 64 * 48


def test_more_pixels_than_the_limit_are_refused(tmp_path):
    frames = [np.zeros((48, 64, 3), np.uint8)] * 21
    limits = FewPixels(seconds=60, megabytes=1)
    limits.check(write_video(tmp_path / 'small.mkv', frames[:20]))
    with pytest.raises(UserError, match='21 frames of 3072 pixels'):
        limits.check(write_video(tmp_path / 'large.mkv', frames))


class Hanging(Limits):
    def check(self, path):
        time.sleep(60)


class Crashing(Limits):
    def check(self, path):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ('limits', 'message'),
    [
        (Hanging(60, 1, patience=5), r'film\.mp4 takes more than 5 s'),
        (Crashing(60, 1, patience=60), r'film\.mp4 cannot be decoded'),
    ],
)
def test_a_request_that_hangs_or_crashes_ends_alone(film, limits, message):
    start = time.monotonic()
    with pytest.raises(UserError, match=message):
        read_untrusted(film, {'num_frames': 2}, limits)
    assert time.monotonic() - start < 50
    assert not multiprocessing.active_children()
    assert read_untrusted(film, {'num_frames': 2}, LIMITS).num_frames == 40


PLAY_LIST = '#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:4,\n{}\n#EXT-X-ENDLIST\n'


def test_an_uploaded_play_list_reads_no_video_of_the_server(client, film, tmp_path):
    for name in ('list.mp4', 'list.m3u8'):
        path = tmp_path / name
        path.write_text(PLAY_LIST.format(film))
        text, mistake, page = ask(client, path)
        assert text == page == ''
        assert 'play list' in mistake or 'no readable video' in mistake


def get(address, path):
    """Return status, headers and content of a file that a stranger asks the server for."""
    url = f'{address}gradio_api/file={urllib.parse.quote(str(path))}'
    try:
        with urllib.request.urlopen(url) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def test_the_samples_are_served_and_nothing_beside_them(address, film):
    secret = film.with_name('secret.txt')
    secret.write_text('hidden content')
    inner = film.parent / 'inner' / 'film.mp4'
    inner.parent.mkdir()
    inner.write_bytes(b'hidden content')
    link = film.with_name('link.mp4')
    link.symlink_to(secret)
    assert get(address, film)[::2] == (200, film.read_bytes())
    climbing = f'{film.parent}/../{film.parent.name}/secret.txt'
    for path in (secret, inner, link, film.parent, climbing, Path(__file__), '/etc/hostname'):
        status, _, content = get(address, path)
        assert status in (403, 404), path
        assert b'hidden content' not in content


def call(address, path):
    """Ask for a caption of a path as no page would, and return the stream of events."""
    file = {'path': str(path), 'meta': {'_type': 'gradio.FileData'}}
    headers = {'Content-Type': 'application/json'}
    body = json.dumps({'data': [file]}).encode()
    url = f'{address}gradio_api/call/caption'
    with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as answer:
        event = json.load(answer)['event_id']
    with urllib.request.urlopen(f'{url}/{event}') as answer:
        return answer.read().decode()


def test_a_path_of_the_server_is_no_upload(address, film):
    assert 'a caption' in call(address, upload(address, 'other.mp4', film.read_bytes()))
    secret = film.with_name('other.mp4')
    secret.write_bytes(film.read_bytes())
    for path in (secret, '/etc/hostname'):
        events = call(address, path)
        assert 'event: error' in events and 'a caption' not in events


def test_an_uploaded_page_is_not_shown_as_one(address, client, tmp_path):
    page = tmp_path / 'page.html'
    page.write_text('<script>window.broken = 1</script>')
    with open(page, 'rb') as file:
        path = upload(address, 'page.html', file.read())
    status, headers, _ = get(address, path)
    assert status in (403, 404) or 'attachment' in headers.get('content-disposition', '')


def upload(address, name, content):
    """Upload a file as the page does; return where the server keeps it."""
    boundary = 'x' * 20
    body = (
        (
            f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n'
            'Content-Type: application/octet-stream\r\n\r\n'
        ).encode()
        + content
        + f'\r\n--{boundary}--\r\n'.encode()
    )
    headers = {'Content-Type': f'multipart/form-data; boundary={boundary}'}
    request = urllib.request.Request(f'{address}gradio_api/upload', body, headers)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)[0]


def test_uploads_are_deleted(film, tmp_path, monkeypatch):
    pytest.importorskip('gradio', reason='gradio is absent')
    monkeypatch.setattr(web_demo, 'KEPT', 1)
    monkeypatch.setattr(web_demo, '_SWEEP', 1)
    demo = build_demo(caption, [film], LIMITS)
    options = {'host': '127.0.0.1', 'port': None, 'samples': [film], 'limits': LIMITS}
    _, address, _ = launch_demo(demo, **options, prevent_thread_lock=True, quiet=True)
    try:
        # Not a copy of the sample, which Gradio keeps for as long as it runs.
        other = write_video(tmp_path / 'other.mp4', grey_ramp(12))
        path = Path(upload(address, 'other.mp4', other.read_bytes()))
        assert path.is_file()
        deadline = time.monotonic() + 60
        while path.exists() and time.monotonic() < deadline:
            time.sleep(0.5)
        assert not path.exists()
        assert film.exists()
    finally:
        demo.close()


def test_the_queue_survives_a_stuck_request(film):
    pytest.importorskip('gradio', reason='gradio is absent')

    def caption_or_hang(path):
        if path.name == 'stuck.mp4':
            read_untrusted(path, {'num_frames': 2}, Hanging(60, 1, patience=3))
        return caption(path)

    demo = build_demo(caption_or_hang, [film], LIMITS)
    options = {'host': '127.0.0.1', 'port': None, 'samples': [film], 'limits': LIMITS}
    _, address, _ = launch_demo(demo, **options, prevent_thread_lock=True, quiet=True)
    try:
        content = film.read_bytes()
        stuck, good = (upload(address, f'{name}.mp4', content) for name in ('stuck', 'good'))
        with concurrent.futures.ThreadPoolExecutor() as pool:
            first, second = pool.map(lambda path: call(address, path), [stuck, good])
        assert 'stuck.mp4 takes more than 3 s' in first
        assert 'a caption' in second
    finally:
        demo.close()


@pytest.fixture(scope='module')
def browser(address, tmp_path_factory):
    webdriver = pytest.importorskip('selenium.webdriver', reason='selenium is absent')
    chromium, driver = shutil.which('chromium'), shutil.which('chromedriver')
    if not chromium or not driver:
        pytest.skip('Chromium or its driver is absent')
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    profile = f'--user-data-dir={tmp_path_factory.mktemp("profile")}'
    for flag in ('--headless=new', '--no-sandbox', '--disable-gpu', profile):
        options.add_argument(flag)
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield browser
    browser.quit()


def wait(browser, selector):
    """Return the first element that a selector finds, once it does."""
    from selenium.webdriver.support.ui import WebDriverWait

    find = lambda browser: browser.find_elements('css selector', selector)  # noqa: E731
    return WebDriverWait(browser, 60).until(find)[0]


@pytest.mark.slow
def test_a_mistake_is_read_out_and_covers_nothing(browser, address, tmp_path):
    bad = tmp_path / 'bad.mp4'
    bad.write_bytes(bytes(100))
    browser.get(address)
    wait(browser, 'button.primary:disabled')
    assert '4.5 seconds and 0.5 MB' in browser.find_element('css selector', 'body').text
    wait(browser, 'input[type=file]').send_keys(str(bad))
    button = wait(browser, 'button.primary:enabled')
    button.click()
    alert = wait(browser, 'p[role=alert]')
    assert 'bad.mp4 is no readable video' in alert.text
    assert alert.rect['y'] >= button.rect['y'] + button.rect['height']


@pytest.mark.slow
def test_a_person_picks_a_sample_and_presses_a_word_of_the_report(browser, address):
    browser.get(address)
    wait(browser, '.gallery-item').click()
    wait(browser, 'video')
    wait(browser, 'button.primary:enabled').click()
    frame = wait(browser, 'iframe[title=Report]')
    assert browser.find_element('css selector', 'textarea').get_property('value').endswith(ATTACK)
    browser.switch_to.frame(frame)
    word = wait(browser, 'button.word')
    word.click()
    assert word.get_attribute('aria-pressed') == 'true'
    assert browser.execute_script('return window.broken') is None
    high = browser.execute_script('return document.body.offsetHeight')
    assert not browser.find_element('css selector', 'h1').is_displayed()
    browser.switch_to.default_content()
    assert abs(frame.rect['height'] - min(max(high, 320), 2000)) <= 2
    assert browser.execute_script('return window.broken') is None
    assert [line for line in browser.get_log('browser') if line['level'] == 'SEVERE'] == []
