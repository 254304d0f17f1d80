"""The web demo: through its client as a program, in headless Chromium as a person."""

import shutil

import pytest

from stg_jax.captioning.explained import in_frame
from stg_jax.captioning.web_demo import Limits, build_demo, launch_demo
from stg_jax.errors import UserError
from stg_jax.visualize.explanation_page import render_page
from tests.fakes.fake_report import ATTACK, fake_entry
from tests.fakes.fake_video import grey_ramp, write_video

LIMITS = Limits(seconds=4.5, megabytes=0.5)


def caption(path):
    """Answer without a model, with texts that try to break out of the page."""
    LIMITS.check(path)
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
