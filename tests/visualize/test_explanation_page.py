import base64
import dataclasses
import hashlib
import html.parser
import json
import re
import subprocess
import sys

import cv2
import matplotlib
import numpy as np
import pytest

from stg_jax.errors import UserError
from stg_jax.visualize import ReportEntry, render_page, to_jpeg, write_figure, write_page
from stg_jax.visualize.html import to_script
from stg_jax.visualize.page_data import lit_objects, page_data, strongest, strongest_links
from tests.fakes.fake_report import ATTACK, WORDS, fake_entry, grid_entry, heat_entry


class Page(html.parser.HTMLParser):
    """The elements of a page and the text inside each kind of them."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self._open = [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._open.append(tag)

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        self.text.setdefault(self._open[-1] if self._open else '', []).append(data)

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope='module')
def page():
    return Page(render_page([fake_entry(), fake_entry(teacher=False)]))


def test_markup_in_texts_is_shown_as_text(page):
    assert [each.get('type') for each in page.of('script')] == ['application/json'] * 2 + [None]
    assert all(each['src'].startswith('data:image/jpeg;base64,') for each in page.of('img'))
    assert page.text['button'] == [*WORDS, *WORDS]
    assert page.text['h2'] == [f'clip {ATTACK}.mp4'] * 2
    assert not any(key.startswith('on') for _, attributes in page.elements for key in attributes)


def test_the_policy_lets_only_the_page_s_own_script_and_style_run(page):
    (policy,) = [each['content'] for each in page.of('meta') if 'http-equiv' in each]
    assert "default-src 'none'" in policy
    for kind, text in (
        ('script-src', page.text['script'][-1]),
        ('style-src', page.text['style'][0]),
    ):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy


def test_a_page_needs_nothing_from_elsewhere(page):
    assert not page.of('link')
    for _, attributes in page.elements:
        for key in ('href', 'src', 'srcset', 'action'):
            assert attributes.get(key, 'data:').startswith(('data:', '#'))


def test_the_script_reads_the_numbers_back(page):
    first, second = map(json.loads, page.text['script'][:2])
    assert first['words'] == list(WORDS)
    assert first['objects'][0][1][:2] == [1, f'thing {ATTACK}']
    assert first['lit'][2][0] == [2, 2, 1.0]
    assert [len(frame) for frame in first['objects']] == [3, 3, 3, 2]
    assert (second['teacher'], second['space'], second['lit']) == (None, [], [])


def test_json_cannot_end_the_script_that_holds_it():
    value = {'a': '</script><!-- & \u2028', 'b': [1.5, None]}
    text = to_script(value)
    assert not set('<>&\u2028') & set(text)
    assert json.loads(text) == value


def test_each_mark_is_labelled_with_the_branch_that_it_explains():
    text = render_page([fake_entry()])
    assert text.count('(teacher: object branch)') == 4
    assert text.count('(student: scene branch)') == 2
    assert '(teacher' not in render_page([fake_entry(teacher=False)])


def test_the_strongest_links_come_first_and_absent_ones_never():
    strength_TNN = np.array([[[0, 0.5, 0.2, 0.9, 0.4], [0.0, -0.3, 0.95, 0, 0]]])
    expected = [(0, 1, 2, 0.95), (0, 0, 3, 0.9), (0, 0, 1, 0.5), (0, 0, 4, 0.4)]
    assert strongest(strength_TNN) == expected


def test_only_objects_that_stand_out_light_up():
    relevance_LTN = np.array([[[1.0, 0.31, 0.29]], [[0.04, 0.03, -1.0]], [[0.06, 0.0, 0.055]]])
    first, noise, weak = lit_objects(relevance_LTN)
    assert [row[:2] for row in first] == [(0, 0), (0, 1)]
    assert noise == []
    assert weak == [(0, 0, 0.06), (0, 2, 0.055)]


def test_a_pair_of_objects_overlaps_once():
    found = page_data(fake_entry())['space']
    assert found and all(i < j for _, i, j, _ in found)


def test_a_long_clip_of_many_objects_makes_a_small_page(tmp_path):
    write_page(tmp_path / 'page.html', [fake_entry(60, 20)])
    assert (tmp_path / 'page.html').stat().st_size < 5e6
    assert [path.name for path in tmp_path.iterdir()] == ['page.html']


def test_large_frames_are_scaled_to_their_share_of_the_page():
    rng = np.random.default_rng(0)
    blotches = np.kron(rng.integers(0, 255, (27, 48, 3)), np.ones((20, 20, 1))).astype(np.uint8)
    entry = fake_entry(10)
    large = dataclasses.replace(entry, frames=[to_jpeg(blotches)] * 10)
    for num_clips, most in ((1, 480), (6, 344), (60, 160)):
        sizes = {int(each['width']) for each in Page(render_page([large] * num_clips)).of('img')}
        assert sizes == {most}


def test_a_page_of_many_clips_lists_them():
    nav = 'nav aria-label="Clips"'
    assert nav not in render_page([fake_entry()] * 3)
    page = Page(render_page([fake_entry()] * 4))
    targets = [each['href'] for each in page.of('a')]
    assert targets == [f'#{each["id"]}' for each in page.of('section')]
    assert page.text['title'][0].startswith(f'clip {ATTACK}.mp4 and 3 more: ')


def test_a_caption_without_words_is_said_to_have_none():
    page = Page(render_page([fake_entry(words=())]))
    assert '(no words)' in page.text['p']
    assert page.text['span'].count('(no words)') == 1


def test_cells_of_a_grid_are_called_by_their_place():
    objects = page_data(grid_entry())['objects']
    assert [each[1] for each in objects[0][:4]] == [
        'row 1, column 1',
        'row 1, column 2',
        'row 1, column 3',
        'row 2, column 1',
    ]
    text = render_page([grid_entry()])
    assert 'when the cell is hidden (student: scene branch)' in text
    assert 'when the cell is hidden' not in render_page([fake_entry()])


def test_the_heat_map_of_a_grid_is_written_in_digits():
    heat = page_data(heat_entry())['heat']
    assert [len(frames) for frames in heat] == [4] * len(WORDS)
    # Half of the most relevant cell, all of it, and nothing for those that speak against.
    assert heat[0] == ['ziii', '0000', '0000', '0000']
    assert heat[1] == ['iiii', '0z00', '0000', '0000']
    assert page_data(fake_entry())['heat'] is None
    legend = 'how much a cell of the frame speaks for the word'
    assert legend in render_page([heat_entry()])
    assert legend not in render_page([fake_entry(), grid_entry()])


def test_the_strongest_links_stand_in_a_table():
    entry = fake_entry()
    rows = strongest_links(entry, 10)
    assert sorted({kind for kind, *_ in rows}) == ['alike', 'overlap'] and len(rows) == 10
    links = entry.explanation.links
    assert max(row[-1] for row in rows[:5]) == pytest.approx(links.cosine_TNN.max(), abs=1e-3)
    page = Page(render_page([entry, fake_entry(teacher=False)]))
    assert len(page.of('table')) == 1 and len(page.of('tr')) == 11


def test_frames_must_be_those_that_are_explained():
    entry = fake_entry()
    with pytest.raises(ValueError, match='the explanation has 4 frames'):
        ReportEntry('clip', entry.frames[:3], entry.captions, entry.explanation)


@pytest.mark.parametrize(
    ('suffix', 'start'), [('png', b'\x89PNG'), ('pdf', b'%PDF'), ('svg', b'<?xml')]
)
def test_figures_are_drawn_in_three_formats(tmp_path, suffix, start):
    path = tmp_path / f'figure.{suffix}'
    entries = [fake_entry(words=('costs', '$5', 'or', '$x_')), fake_entry(6, teacher=False)]
    write_figure(path, entries)
    assert path.read_bytes().startswith(start)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_figure_places_words_or_says_that_they_stand_elsewhere(tmp_path):
    entry = fake_entry(12, words=('the', 'ball', 'the', 'far', 'faint'))
    relevance_LTN = np.zeros((5, 12, 3))
    relevance_LTN[[0, 1, 2], 2, 0] = 1.0
    relevance_LTN[3, 11, 0] = 0.5
    relevance_LTN[4, 2, 1] = 0.01
    explanation = dataclasses.replace(entry.explanation, relevance_LTN=relevance_LTN)
    path = tmp_path / 'figure.svg'
    with matplotlib.rc_context({'svg.fonttype': 'none'}):
        write_figure(path, [dataclasses.replace(entry, explanation=explanation)])
    texts = re.findall(r'<text[^>]*>([^<]*)</text>', path.read_text())
    assert 'the ball' in texts
    assert any(text.endswith('(teacher: object branch); in other frames: far') for text in texts)
    assert 'faint' not in texts


def texts_of(path, entry):
    with matplotlib.rc_context({'svg.fonttype': 'none'}):
        write_figure(path, [entry])
    return re.findall(r'<text[^>]*>([^<]*)</text>', path.read_text())


def test_a_figure_has_a_row_for_the_cells_of_a_student(tmp_path):
    both = texts_of(tmp_path / 'both.svg', heat_entry(words=('a', 'red', 'ball')))
    assert [text for text in both if text in ('a', 'red', 'ball')] == ['a', 'red', 'ball'] * 2
    assert sum('(teacher: object branch)' in text for text in both) == 1
    assert sum('(student: scene branch)' in text for text in both) == 1
    alone = texts_of(tmp_path / 'alone.svg', heat_entry(words=('a', 'red'), teacher=False))
    assert [text for text in alone if text in ('a', 'red')] == ['a', 'red']
    # At the hottest cell of a long clip, which the drawn frames show.
    entry = heat_entry(num_frames=20, words=('a',), teacher=False)
    relevance_LTG = np.zeros((1, 20, 4))
    relevance_LTG[0, 17, 2] = 1.0
    late = dataclasses.replace(entry.explanation, relevance_LTG=relevance_LTG)
    assert 'a' in texts_of(tmp_path / 'late.svg', dataclasses.replace(entry, explanation=late))


def test_a_figure_has_no_gaps(tmp_path):
    pages = [fake_entry(2, words=('a',), name='a'), fake_entry(5, words=('a',), name='b')]
    write_figure(tmp_path / 'figure.png', pages)
    picture = cv2.imread(str(tmp_path / 'figure.png'))
    height, width = picture.shape[:2]
    frame = 2.1 * 150
    assert width == pytest.approx(5.6 * frame, abs=2)
    assert height < 2 * (frame * 48 / 64 + 100)
    assert (picture[-1] < 250).any() and (picture[:, -1] < 250).any()


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(UserError, match=r'figure\.gif must end in'):
        write_figure(tmp_path / 'figure.gif', [fake_entry()])


def test_a_figure_without_matplotlib_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'matplotlib.figure', None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[plot\]'"):
        write_figure(tmp_path / 'figure.png', [fake_entry()])


def test_a_page_needs_no_matplotlib():
    code = 'import sys, stg_jax.visualize; sys.exit("matplotlib" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0
