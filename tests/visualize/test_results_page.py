"""The page of an evaluation: whatever captions hold stays text, and thousands of clips fit."""

import html.parser
import json
import re
import shutil
import subprocess

import pytest

from stg_jax.visualize.results_page import write_results_page

NASTY = '</script><img src=x onerror="document.title=1"><!-- <script> & \u2028 "quotes"'


class Elements(html.parser.HTMLParser):
    """Collect the elements of a page and the text of its scripts."""

    def __init__(self, text):
        super().__init__()
        self.names, self.text, self._open = [], {}, ('', None)
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self._open = (tag, dict(attrs).get('id'))

    def handle_data(self, data):
        self.text[self._open] = self.text.get(self._open, '') + data


def write_page(path, num_clips):
    clips = ['<b>clip</b> "1"', *(f'clip{i}' for i in range(1, num_clips))]
    predictions = dict.fromkeys(clips, 'a man is playing a guitar') | {clips[0]: NASTY}
    references = {clip: [f'reference {i} of {clip}' for i in range(20)] for clip in clips}
    references[clips[0]] = [NASTY, 'x']
    result = {
        'metrics': {'BLEU-4': 12.345, 'CIDEr': 50.0},
        'captions': {'novel': 7.0},
        'warnings': ['METEOR is <left> out'],
        'per_clip': {clip: {'BLEU-4': 0.0, 'CIDEr': float(i)} for i, clip in enumerate(clips)},
    }
    write_results_page(
        path,
        title='<i>run</i>: test',
        facts=['step 7 & more'],
        result=result,
        predictions=predictions,
        references=references,
    )
    return predictions, references


def test_captions_are_text_and_all_are_there(tmp_path):
    predictions, references = write_page(tmp_path / 'index.html', 3)
    page = Elements((tmp_path / 'index.html').read_text(encoding='utf-8'))
    assert page.names.count('script') == 2
    assert not {'img', 'i', 'b'} & set(page.names)
    data = json.loads(page.text['script', 'data'])
    assert {clip['id']: clip['caption'] for clip in data['clips']} == predictions
    assert {clip['id']: clip['references'] for clip in data['clips']} == references
    assert page.text['h1', None].strip() == '<i>run</i>: test'
    rows = ' '.join(text for (name, _), text in page.text.items() if name in ('td', 'th', 'p'))
    for part in ('12.35', '7.00', 'METEOR is <left> out', 'step 7 & more'):
        assert part in rows


def test_the_page_loads_nothing(tmp_path):
    write_page(tmp_path / 'index.html', 2)
    text = (tmp_path / 'index.html').read_text(encoding='utf-8')
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert 'unsafe' not in policy
    assert not re.search(r'(src|href)=["\']?http', text)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which('chromium') is None, reason='chromium is absent')
def test_a_browser_shows_thousands_of_clips(tmp_path):
    write_page(tmp_path / 'index.html', 2990)
    options = ['--headless', '--no-sandbox', '--disable-gpu', f'--user-data-dir={tmp_path / "x"}']
    shown = subprocess.run(
        ['chromium', *options, '--virtual-time-budget=2000', '--dump-dom', tmp_path / 'index.html'],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    page = Elements(shown)
    body = shown.split('<tbody>')[-1]
    assert '2990 of 2990 clips' in shown
    assert body.count('<details>') == 49
    assert 'Show more (2940 left)' in shown
    assert page.names.count('rect') == 20
    # The worst clip comes first, and its text is text.
    assert body.index('&lt;b&gt;clip') < body.index('clip1')
    assert '&lt;img src=x' in body
    assert not {'img', 'i', 'b'} & set(page.names)
