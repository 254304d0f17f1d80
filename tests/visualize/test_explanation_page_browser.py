"""The report in headless Chromium, as a reader uses it: pointer, keyboard, themes, widths."""

import dataclasses
import shutil

import numpy as np
import pytest

from stg_jax.visualize import to_jpeg, write_page
from tests.fakes.fake_report import ATTACK, WORDS, fake_entry, grid_entry, heat_entry, joint_entry

webdriver = pytest.importorskip('selenium.webdriver', reason='selenium is absent')
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

pytestmark = pytest.mark.slow
QUIET = ('--headless=new', '--no-sandbox', '--disable-gpu', '--disable-background-networking')


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    chromium, driver = shutil.which('chromium'), shutil.which('chromedriver')
    if not chromium or not driver:
        pytest.skip('Chromium or its driver is absent')
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*QUIET, f'--user-data-dir={tmp_path_factory.mktemp("profile")}'):
        options.add_argument(flag)
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield browser
    browser.quit()


@pytest.fixture(scope='module')
def address(tmp_path_factory):
    path = tmp_path_factory.mktemp('report') / 'page.html'
    write_page(path, [fake_entry(), fake_entry(teacher=False), grid_entry()])
    return path.as_uri()


@pytest.fixture(scope='module')
def film(tmp_path_factory):
    """Return the page of one long clip and some more windows."""
    path = tmp_path_factory.mktemp('film') / 'page.html'
    rng = np.random.default_rng(0)
    noise = [to_jpeg(x) for x in rng.integers(0, 255, (60, 270, 480, 3), dtype=np.uint8)]
    write_page(path, [dataclasses.replace(fake_entry(60, 20), frames=noise), *[fake_entry()] * 12])
    return path


@pytest.fixture
def page(browser, address):
    resize(browser, 1280)
    browser.get(address)
    yield browser
    assert browser.get_log('browser') == []
    assert browser.execute_script('return window.broken') is None


def resize(browser, width):
    size = {'width': width, 'height': 900, 'deviceScaleFactor': 1, 'mobile': False}
    browser.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', size)


def all_of(page, selector):
    return page.find_elements(By.CSS_SELECTOR, f'.clip:first-of-type {selector}')


def words(page):
    return all_of(page, '.word')


def told(page):
    return all_of(page, '.told')[0].text


def lit_boxes(page):
    """Return the places of lit boxes in their frames, as shares of the frame (T, left)."""
    return page.execute_script("""
      const images = [...document.querySelectorAll('.clip:first-of-type .film img')];
      const clip = document.querySelector('.clip');
      return [...clip.querySelectorAll('.film .box.lit:not(.under)')].map((box) => {
        const x = Number(box.getAttribute('x'));
        const t = images.findIndex((i) => i.offsetLeft <= x && x <= i.offsetLeft + i.clientWidth);
        return [t, (x - images[t].offsetLeft) / images[t].clientWidth];
      });""")


def line_length(page, kind):
    """Return the total length of the links drawn of a kind; not 0 where there is one."""
    paths = all_of(page, f'.film path.{kind}')
    return page.execute_script(
        'return arguments[0].reduce((sum, path) => sum + path.getTotalLength(), 0)', paths
    )


def test_texts_with_markup_are_shown_as_they_are(page):
    assert [word.text for word in words(page)] == list(WORDS)
    assert ATTACK in all_of(page, '.captions li')[1].text
    assert ATTACK in all_of(page, 'h2')[0].text


def test_pointing_at_a_word_lights_its_object_and_its_frames(page):
    entry = fake_entry()
    assert lit_boxes(page) == []
    ActionChains(page).move_to_element(words(page)[1]).perform()
    ((t, left),) = lit_boxes(page)
    assert t == 1
    assert left == pytest.approx(entry.explanation.box_TN4[1, 1, 0], abs=0.01)
    tag = all_of(page, '.tag')[0].text
    assert len(tag) == 28 and f'thing {ATTACK}'.startswith(tag[:-1])
    saliency_T = entry.explanation.saliency_LT[1]
    bars = all_of(page, '.film .bar.saliency')
    assert max(bars, key=lambda bar: bar.size['width']) == bars[saliency_T.argmax()]
    ActionChains(page).move_to_element(all_of(page, 'h2')[0]).perform()
    assert lit_boxes(page) == []


def widths(page, name):
    """Return how much of its track each bar fills (T,)."""
    return page.execute_script(
        """return [...document.querySelectorAll('.clip:first-of-type .film .bar.' + arguments[0])]
        .map((bar) => bar.offsetWidth / bar.parentElement.offsetWidth)""",
        name,
    )


def test_bars_and_sentence_of_all_words_are_on_one_scale(page):
    explanation = fake_entry().explanation
    rows = {
        'teacher': explanation.attention['object'],
        'student': explanation.attention['scene'],
        'saliency': explanation.saliency_LT,
    }
    for l, word in enumerate(words(page)):
        word.click()
        for name, row_LT in rows.items():
            assert widths(page, name) == pytest.approx(row_LT[l] / row_LT.max(), abs=0.02)
        saliency_T = explanation.saliency_LT[l]
        sentence = f'needs frame {saliency_T.argmax() + 1} most (−{saliency_T.max():.2f}'
        assert sentence in told(page)


def test_a_click_keeps_a_word_and_escape_lets_go(page):
    words(page)[2].click()
    ActionChains(page).move_to_element(all_of(page, 'h2')[0]).perform()
    assert words(page)[2].get_attribute('aria-pressed') == 'true'
    assert [t for t, _ in lit_boxes(page)] == [2]
    ActionChains(page).send_keys(Keys.ESCAPE).perform()
    assert words(page)[2].get_attribute('aria-pressed') == 'false'
    assert lit_boxes(page) == []


def test_escape_from_anywhere_lets_go(page):
    words(page)[2].click()
    page.execute_script('document.activeElement.blur(); window.scrollTo(0, 0)')
    ActionChains(page).move_to_element(all_of(page, 'h2')[0]).perform()
    assert page.switch_to.active_element.tag_name == 'body'
    ActionChains(page).send_keys(Keys.ESCAPE).perform()
    assert lit_boxes(page) == []
    assert told(page) == 'No word is chosen.'


def test_pointing_at_words_moves_nothing(page):
    resize(page, 400)
    page.refresh()
    tops = set()
    for word in words(page):
        ActionChains(page).move_to_element(word).perform()
        tops.add(tuple(all_of(page, part)[0].rect['y'] for part in ('.strip', '.below')))
    assert len(tops) == 1


def test_the_keyboard_alone_is_enough(page):
    page.execute_script('document.body.tabIndex = -1; document.body.focus()')
    ActionChains(page).send_keys(Keys.TAB, Keys.TAB).perform()
    assert page.switch_to.active_element == words(page)[1]
    assert [t for t, _ in lit_boxes(page)] == [1]
    assert page.switch_to.active_element.value_of_css_property('outline-style') == 'solid'
    ActionChains(page).send_keys(Keys.ENTER).perform()
    assert words(page)[1].get_attribute('aria-pressed') == 'true'
    ActionChains(page).send_keys(Keys.TAB, Keys.TAB, Keys.TAB).perform()
    assert page.switch_to.active_element == all_of(page, '.strip')[0]
    assert [t for t, _ in lit_boxes(page)] == [1]


def test_what_is_lit_is_told_in_words_of_which_branch(page):
    assert all_of(page, '.told')[0].get_attribute('role') == 'status'
    words(page)[0].click()
    assert '“a”' in told(page)
    assert f'Teacher, object branch: thing {ATTACK} in frame 1 (+1.00)' in told(page)
    assert 'Student, scene branch: it needs frame' in told(page)
    assert 'nats (KL)' in told(page)
    assert 'Its attention is highest at frame' in told(page)
    assert f'thing {ATTACK} in frame 2 are alike (' in told(page)


def test_the_cells_that_a_word_misses_are_tinted_and_told(page):
    section = page.find_elements(By.CSS_SELECTOR, '.clip')[2]
    section.find_elements(By.CSS_SELECTOR, '.word')[0].click()
    (cell,) = section.find_elements(By.CSS_SELECTOR, '.film .cell')
    image = section.find_elements(By.CSS_SELECTOR, '.film img')[1]
    assert cell.rect['x'] - image.rect['x'] == pytest.approx(image.rect['width'] * 2 / 3, abs=1)
    text = section.find_element(By.CSS_SELECTOR, '.told').text
    assert 'The cell that it needs most is row 2, column 3 of frame 2 (−0.20)' in text


def test_cells_that_speak_for_a_word_are_tinted_and_told(browser, tmp_path):
    write_page(tmp_path / 'page.html', [heat_entry(teacher=False)])
    browser.get((tmp_path / 'page.html').as_uri())
    assert all_of(browser, '.film .heat') == []
    words(browser)[1].click()
    *faint, hot = all_of(browser, '.film .heat')
    assert [float(each.get_attribute('opacity')) for each in (faint[0], hot)] == pytest.approx(
        [0.8 * (18 / 35) ** 0.5, 0.8]
    )
    image = all_of(browser, '.film img')[1]
    assert len(faint) == 4 and hot.rect['x'] > image.rect['x']
    expected = {
        'x': image.rect['x'] + image.rect['width'] / 2,
        'y': image.rect['y'],
        'width': image.rect['width'] / 2,
        'height': image.rect['height'] / 2,
    }
    assert hot.rect == pytest.approx(expected, abs=1)
    assert 'The cell that speaks for it most is row 1, column 2 of frame 2.' in told(browser)
    assert browser.get_log('browser') == []


def test_the_slider_takes_links_away_from_the_weakest_on(page):
    (slider,) = all_of(page, 'input[type=range]')
    lengths = []
    for key in (Keys.END, Keys.HOME):
        slider.send_keys(key)
        lengths.append([line_length(page, kind) for kind in ('space', 'time')])
        output = all_of(page, 'output')[0].text
    assert min(lengths[0]) > 0
    assert lengths[1] == [0, 0]
    assert slider.get_attribute('aria-valuetext') == output
    assert output == '0 %'


def test_a_run_without_a_teacher_shows_no_links_and_says_so(page):
    section = page.find_elements(By.CSS_SELECTOR, '.clip')[1]
    section.find_elements(By.CSS_SELECTOR, '.word')[0].click()
    text = section.find_element(By.CSS_SELECTOR, '.told').text
    assert 'Teacher' not in text and 'Student, scene branch' in text
    assert section.find_elements(By.CSS_SELECTOR, '.legend .time') == []


def test_a_film_opens_at_once_and_starts_the_clips_that_are_near(browser, film):
    assert film.stat().st_size < 5e6
    browser.get(film.as_uri())
    (entry,) = browser.execute_script('return performance.getEntriesByType("navigation")')
    assert 0 < entry['loadEventEnd'] < 1000
    first, last = ('#clip-0 .film > svg > *', '#clip-12 .film > svg > *')
    WebDriverWait(browser, 10).until(lambda browser: browser.find_elements(By.CSS_SELECTOR, first))
    assert browser.find_elements(By.CSS_SELECTOR, last) == []
    browser.find_elements(By.CSS_SELECTOR, 'nav a')[12].click()
    WebDriverWait(browser, 10).until(lambda browser: browser.find_elements(By.CSS_SELECTOR, last))
    assert browser.get_log('browser') == []


@pytest.mark.parametrize('width', [400, 1280])
def test_nothing_is_wider_than_the_window(page, width):
    resize(page, width)
    page.refresh()
    words(page)[3].click()
    assert page.execute_script('return document.documentElement.scrollWidth') <= width
    assert min(word.size['height'] for word in words(page)) >= 24


def test_the_page_is_light_or_dark_as_the_reader_s_system_is(page):
    found = []
    for scheme in ('light', 'dark'):
        features = [{'name': 'prefers-color-scheme', 'value': scheme}]
        page.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': features})
        body = page.find_element(By.TAG_NAME, 'body')
        found.append(
            (body.value_of_css_property('background-color'), body.value_of_css_property('color'))
        )
    assert found[0] == ('rgba(255, 255, 255, 1)', 'rgba(27, 29, 33, 1)')
    assert found[1] == ('rgba(20, 22, 26, 1)', 'rgba(233, 236, 240, 1)')


def test_one_decoder_tells_its_attention_once(browser, tmp_path):
    write_page(tmp_path / 'page.html', [joint_entry()])
    browser.get((tmp_path / 'page.html').as_uri())
    words(browser)[0].click()
    text = told(browser)
    assert 'Teacher, joint branch' in text and 'Student, joint branch' in text
    assert text.count('attention is highest') == 1
