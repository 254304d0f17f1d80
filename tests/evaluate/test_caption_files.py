"""Captions and references from files of any origin: right or refused, never dropped."""

import csv
import io
import json
import random
import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from stg_jax.data.text import normalise
from stg_jax.errors import UserError
from stg_jax.evaluate import java
from stg_jax.evaluate.caption_files import read_predictions
from stg_jax.evaluate.clip_table import clip_table
from stg_jax.evaluate.metrics import made_with, score
from stg_jax.evaluate.reference_files import read_references, rename_clips
from tests.fakes import fake_data, fake_run

TEXT = st.text(st.characters(exclude_categories=['Cs']), max_size=30)
ODD = st.sampled_from(
    ['', '"a", \'b\'', 'a\nb\r\nc', 'a\tb', 'word ' * 99, '|||', '\x00 a', '‮', 'a\rb', '"']
)
CAPTION = st.one_of(TEXT, ODD, st.lists(st.sampled_from(['a', 'dog', 'runs'])).map(' '.join))
CLIPS = st.dictionaries(
    st.text(st.characters(exclude_categories=['Cs']), min_size=1, max_size=8).filter(str.strip),
    st.tuples(CAPTION, st.lists(CAPTION, min_size=1, max_size=3)),
    min_size=1,
    max_size=4,
)


def write(path, text):
    path.write_text(text, encoding='utf-8', newline='')
    return path


def coco(captions):
    return json.dumps([{'image_id': clip, 'caption': text} for clip, text in captions.items()])


def jsonl(captions):
    rows = ({'clip': clip, 'caption': text} for clip, text in captions.items())
    return ''.join(json.dumps(row, ensure_ascii=False) + '\n' for row in rows)


def tsv(captions):
    return ''.join(f'{clip}\t{text}\n' for clip, text in captions.items())


WRITERS = {'.json': coco, '.jsonl': jsonl, '.tsv': tsv}


def assert_scores_are_those_of_pycocoevalcap(result, hypotheses, references):
    """Check BLEU, ROUGE-L and CIDEr of each clip and of all, given the words of both sides."""
    names = sorted(references)
    judged = [{name: side[name] for name in names} for side in (references, hypotheses)]
    judged[1] = {name: [text] for name, text in judged[1].items()}
    bleu, bleu_of = Bleu(4).compute_score(*judged, verbose=0)
    rouge, rouge_of = Rouge().compute_score(*judged)
    cider, cider_of = Cider().compute_score(*judged)
    metrics = [*(f'BLEU-{n}' for n in range(1, 5)), 'ROUGE-L', 'CIDEr']
    corpus = [result['metrics'][metric] for metric in metrics]
    np.testing.assert_allclose(corpus, np.multiply(100, [*bleu, rouge, cider]), atol=1e-9)
    found = [[result['per_clip'][name][metric] for name in names] for metric in metrics]
    np.testing.assert_allclose(found, np.multiply(100, [*bleu_of, rouge_of, cider_of]), atol=1e-9)


def scored(predictions, references):
    """Score without Java, by words: what the property is about is what reaches the metrics."""
    return score(predictions, references, metrics=('bleu', 'cider', 'rouge'))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('files of anybody')


@pytest.fixture(scope='class')
def no_java():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(java, '_JAVA', ('/no/such/java',))
        yield


@settings(deadline=None, max_examples=60)
@given(
    CLIPS, st.sampled_from(['.json', '.jsonl', '.tsv']), st.sampled_from(['', 'missing', 'extra'])
)
def test_any_text_gets_its_score_or_a_refusal(folder, no_java, clips, suffix, fault):
    predictions = {clip: caption for clip, (caption, _) in clips.items()}
    if suffix == '.tsv':  # whose lines hold neither line breaks nor, in names, tabs
        assume(not any(re.search(r'[\t\r\n]|^\ufeff', clip) for clip in clips))
        predictions = {clip: re.sub(r'[\t\r\n]', ' ', text) for clip, text in predictions.items()}
    references = {clip: texts for clip, (_, texts) in clips.items()}
    write(folder / 'references.json', json.dumps(references))
    if fault == 'missing':
        predictions.pop(next(iter(predictions)))
    if fault == 'extra':
        predictions['one clip more'] = 'a dog'
    path = write(folder / f'p{suffix}', WRITERS[suffix](predictions))
    try:
        found = read_predictions(path)
        result = scored(found, read_references(folder / 'references.json').captions)
    except UserError as error:
        wordless = any(not any(map(str.split, texts)) for texts in references.values())
        punctuation = not any(normalise(text) for texts in references.values() for text in texts)
        assert fault or wordless or punctuation, error
        return
    assert not fault
    assert found == predictions
    assert result['per_clip'].keys() == clips.keys()
    names = sorted(clips)
    assert_scores_are_those_of_pycocoevalcap(
        result,
        {clip: normalise(predictions[clip]) for clip in names},
        {clip: list(map(normalise, references[clip])) for clip in names},
    )
    table = io.StringIO(clip_table(result, predictions), newline='')
    assert {row['clip']: row['caption'] for row in csv.DictReader(table)} == predictions


def test_the_tokenizer_never_shifts_captions():
    rng = random.Random(0)
    codes = [c for c in range(0x3000) if chr(c).strip() or c < 128]
    captions = [
        f'first{i} ' + ''.join(chr(rng.choice(codes)) for _ in range(rng.randrange(20)))
        for i in range(400)
    ]
    captions += ['first400 ' + 'word ' * 10_000, 'first401\n\n\r"\x85 last', 'first402\x00']
    found = java.tokenise(captions)
    assert [line.split()[0] for line in found] == [f'first{i}' for i in range(403)]
    assert len(found[400].split()) == 10_001


def test_odd_captions_are_scored_by_java_in_one_start(monkeypatch):
    rng = random.Random(1)
    codes = [c for c in range(0x3000) if not 0xD800 <= c < 0xE000]
    odd = [''.join(chr(rng.choice(codes)) for _ in range(rng.randrange(20))) for _ in range(200)]
    odd += [
        '',
        ' ',
        '"a", \'b\'',
        "'",
        'a\nb\r\nc',
        'a\rb',
        '|||',
        '\x00',
        '...',
        '-LRB- (x)',
        '💥 é',
    ]
    # A word of its own in every clip: a shift of one caption would score nothing.
    predictions = {f'{i}\n': f'own{i} {text}' for i, text in enumerate(odd)}
    references = {clip: [text, 'a dog'] for clip, text in predictions.items()}
    predictions |= {'empty': '', 'no words': '?!', 'long': 'own ' + 'word ' * 10_000}
    references |= {'empty': ['a dog'], 'no words': ['a dog'], 'long': ['own words']}
    asked = []

    def tokenise(captions, real=java.tokenise):
        asked.append((captions, real(captions)))
        return asked[-1][1]

    monkeypatch.setattr(java, 'tokenise', tokenise)
    result = score(predictions, references)
    ((captions, tokens),) = asked
    words = dict(zip(captions, tokens, strict=True))
    assert_scores_are_those_of_pycocoevalcap(
        result,
        {clip: words[text] for clip, text in predictions.items()},
        {clip: [words[text] for text in texts] for clip, texts in references.items()},
    )
    assert result['warnings'] == []
    assert result['versions'].keys() >= {'meteor', 'java'}
    for clip, found in result['per_clip'].items():
        if clip.endswith('\n'):
            assert found['METEOR'] == found['ROUGE-L'] == 100
    for clip in ('empty', 'no words'):
        assert max(result['per_clip'][clip].values()) < 1e-6


def test_captions_between_tabs_may_hold_anything_but_tabs_and_line_breaks(tmp_path):
    path = write(tmp_path / 'p.tsv', 'a\t"quoted", \u2028 text\n\nb\t\n7\tcafé\n')
    assert read_predictions(path) == {
        'a': '"quoted", \u2028 text',
        'b': '',
        '7': 'café',
    }


@pytest.mark.parametrize(
    ('name', 'text', 'part'),
    [
        ('p.tsv', 'a\tx\nb x\n', 'line 2: expected clip<TAB>caption'),
        ('p.tsv', 'a\tx\na\ty\n', "clip 'a' has a caption already"),
        ('p.tsv', '\n', 'holds no caption'),
        ('p.tsv', ' \tx\n', 'no name of a clip'),
        ('p.json', '{"a": "x", "a": "y"}', "'a' twice"),
        ('p.json', '[{"image_id": 7, "caption": "x"}, {"image_id": "7", "caption": "y"}]', "'7'"),
        ('p.json', '[{"image_id": 7}]', 'entry 0: expected an object with image_id and caption'),
        ('p.json', '{"a": ["x", "y"]}', "'a' needs one caption"),
        ('p.json', '{"a": null}', "'a' needs one caption"),
        ('p.json', '{"r": [{"image_id": 1}, {"image_id": 2}]}', "'r' holds a list of 2 entries"),
        ('p.json', '{"a": "\\ud800"}', 'half of a character'),
        ('p.json', '"x"', 'neither a list'),
        ('p.json', '{', 'not valid JSON'),
        ('p.jsonl', '{"clip": "a", "caption": "x"}\n[]\n', 'line 2'),
        ('p.srt', 'clip,caption\n', 'must end in .json'),
    ],
)
def test_predictions_that_are_not_one_caption_a_clip_are_refused(tmp_path, name, text, part):
    with pytest.raises(UserError) as error:
        read_predictions(write(tmp_path / name, text))
    assert part in str(error.value)
    assert name in str(error.value)


def test_references_of_every_layout_are_read_as_written(tmp_path):
    raw = ["A man's dog, running!", 'a make-up']
    coco_file = {
        'images': [{'id': 5}],
        'annotations': [{'image_id': 5, 'caption': text} for text in raw],
    }
    msrvtt = {
        'videos': [{'video_id': 'video7010', 'split': 'test'}],
        'sentences': [
            {'video_id': 'video7010', 'sen_id': i, 'caption': text} for i, text in enumerate(raw)
        ],
    }
    found = read_references(write(tmp_path / 'coco.json', json.dumps(coco_file)))
    assert found.captions == {'5': raw}
    found = read_references(write(tmp_path / 'test_videodatainfo.json', json.dumps(msrvtt)), 'test')
    assert found.captions == {'video7010': raw}
    renamed, notes = rename_clips({'7010': 'x'}, found)
    assert renamed == {'video7010': 'x'}
    assert 'index0' in notes[0]
    own = write(tmp_path / 'own.csv', f'clip,caption,split\na,"{raw[0]}",test\nb,x y,train\n')
    found = read_references(own, 'test')
    assert (found.captions, found.train_captions) == ({'a': raw[:1]}, ['x y'])
    assert read_references(own).captions == {'a': raw[:1], 'b': ['x y']}
    (tmp_path / 'msvd').mkdir()
    write(tmp_path / 'msvd' / 'youtube_mapping.txt', 'abc_1_2 vid1301\n')
    write(tmp_path / 'msvd' / 'sents_test_lc_nopunc.txt', 'vid1301\ta man runs\n')
    found = read_references(tmp_path / 'msvd', 'test')
    assert found.captions == {'abc_1_2': ['a man runs']}
    assert rename_clips({'vid1301': 'x'}, found)[0] == {'abc_1_2': 'x'}


@pytest.mark.parametrize(
    ('name', 'document', 'split', 'part'),
    [
        ('r.json', {'a': ['x']}, 'test', 'has no splits'),
        ('r.json', {'annotations': [{'caption': 'x'}]}, None, 'annotation 0'),
        ('r.json', 'x', None, '{clip: [captions]}, a list of objects or COCO annotations'),
        ('r.json', {'a': [1]}, None, "'a' needs one caption"),
        ('r.jsonl', {'clip': 'a', 'caption': 'x', 'split': 'train'}, 'test', "no split 'test'"),
    ],
)
def test_references_that_are_broken_are_refused(tmp_path, name, document, split, part):
    with pytest.raises(UserError) as error:
        read_references(write(tmp_path / name, json.dumps(document)), split)
    assert part in str(error.value)


def test_two_names_of_one_clip_are_refused(tmp_path):
    sentences = [{'video_id': 'video7010', 'sen_id': 0, 'caption': 'x'}]
    path = write(tmp_path / 'r.json', json.dumps({'sentences': sentences}))
    with pytest.raises(UserError, match='name a clip twice'):
        rename_clips({'video7010.mp4': 'x', 'a/video7010.mp4': 'y'}, read_references(path))


def test_the_command_writes_what_it_prints_and_how_it_was_made(tmp_path):
    folder = tmp_path / 'a folder'
    folder.mkdir()
    clip, caption = 'clip, "1"', 'a dog,\n"runs"'
    predictions = write(folder / 'p.json', json.dumps({clip: caption}))
    references = write(folder / 'r.json', json.dumps({clip: ['a dog runs', 'dogs run']}))
    train = write(folder / 't.json', json.dumps({'x': ['A dog runs.']}))
    finished = fake_run.run(
        'score',
        f'--predictions={predictions}',
        f'--references={references}',
        f'--train={train}',
        f'--per_clip={folder / "clips.csv"}',
        f'--out={folder / "scores.json"}',
        '--metrics=bleu,rouge,spice',
    )
    assert finished.returncode == 0, finished.stderr
    assert 'SPICE is left out' in finished.stderr
    assert 'seen in training     100.00' in finished.stdout
    result = json.loads((folder / 'scores.json').read_text())
    assert result['metrics']['ROUGE-L'] == 100
    with (folder / 'clips.csv').open(newline='') as file:
        (row,) = csv.DictReader(file)
    assert (row['clip'], row['caption']) == (clip, caption)
    assert float(row['BLEU-2']) == result['per_clip'][clip]['BLEU-2']
    for part in ('PTB', 'pycocoevalcap', 'Java', '2 references'):
        assert part in row['made_with']
    assert 'METEOR' not in row['made_with']  # it was not asked for
    assert {path.name for path in folder.iterdir()} == {
        'p.json',
        'r.json',
        't.json',
        'clips.csv',
        'scores.json',
    }
    refused = fake_run.run('score', f'--predictions={references}', f'--references={references}')
    assert refused.returncode == 2
    assert 'needs one caption' in refused.stderr


def test_a_data_folder_has_the_references_that_its_runs_see(tmp_path):
    data = fake_data.fake_data_folder(tmp_path)
    found = read_references(data, 'test')
    assert list(found.captions) == ['test_0', 'test_1']
    assert found.train_captions
    with pytest.raises(UserError, match='--split'):
        read_references(data)


@pytest.mark.parametrize('odd', ['a\rb', '\r', 'a\r\nb', '"a", "b"', '"', 'a\nb', '\x85\u2028', ''])
def test_the_csv_of_clips_reads_back_every_caption(no_java, odd):
    predictions = {'one': 'a dog', odd + 'clip': odd, 'three': odd + 'dog'}
    result = scored(predictions, {clip: ['a dog runs'] for clip in predictions})
    rows = list(csv.DictReader(io.StringIO(clip_table(result, predictions), newline='')))
    assert {row['clip']: row['caption'] for row in rows} == predictions
    for row in rows:
        assert float(row['CIDEr']) == result['per_clip'][row['clip']]['CIDEr']
        assert row['made_with'] == made_with(result)


@pytest.mark.parametrize('flag', ['--out', '--per_clip'])
@pytest.mark.parametrize('where', ['file/x.json', '', '/proc/x.json', 'x' * 300])
def test_files_that_cannot_be_written_are_refused_before_anything_is_read(tmp_path, flag, where):
    (tmp_path / 'file').write_text('')
    path = tmp_path / where
    missing = [f'--predictions={tmp_path}/no.json', f'--references={tmp_path}/no.json']
    finished = fake_run.run('score', *missing, f'{flag}={path}')
    assert finished.returncode == 2
    assert finished.stderr.startswith(f'score.py: {path} ')
    assert len(finished.stderr.splitlines()) == 1
    assert [each.name for each in tmp_path.iterdir()] == ['file']


@pytest.mark.parametrize('name', ['r.tsv', 'r.txt', 'sents_test_lc_nopunc.txt'])
def test_tab_separated_references_are_told_by_their_content(tmp_path, name):
    path = write(tmp_path / name, 'vid1301\ta man runs\nvid1301\tA man.\nvid1302\tdogs\n')
    assert read_references(path).captions == {
        'vid1301': ['a man runs', 'A man.'],
        'vid1302': ['dogs'],
    }
    with pytest.raises(UserError, match='has no splits'):
        read_references(path, 'test')
    with pytest.raises(UserError, match='line 2: expected clip<TAB>caption'):
        read_references(write(tmp_path / 'broken.tsv', 'a\tx\nb x\n'))


def numbered(tmp_path, *clips):
    rows = [{'video_id': clip, 'sen_id': i, 'caption': 'x'} for i, clip in enumerate(clips)]
    return read_references(write(tmp_path / 'r.json', json.dumps({'sentences': rows})))


def test_clips_of_another_kind_are_named_beside_those_of_the_references(tmp_path):
    with pytest.raises(UserError, match=r"clips like 'p', these of clips like 'video7'") as error:
        rename_clips({'p': 'x'}, numbered(tmp_path, 'video7'))
    assert '--ids' not in str(error.value)
    with pytest.raises(UserError, match=r"clips like 'p', the references of clips like 'a'"):
        score({'p': 'x'}, {'a': ['x']})


def test_numbers_count_from_0_or_from_1_as_the_references_need_it(tmp_path):
    references = numbered(tmp_path, 'video7', 'video8')
    for keys, start in ((['7', '8'], 0), (['8', '9'], 1)):
        renamed, notes = rename_clips(dict(zip(keys, 'xy', strict=True)), references)
        assert renamed == {'video7': 'x', 'video8': 'y'}
        assert notes[0].endswith(f'counted from {start}')


def test_counts_are_printed_as_such_and_metrics_in_any_case(tmp_path):
    predictions = write(tmp_path / 'p.json', json.dumps({'a': 'a dog'}))
    references = write(tmp_path / 'r.json', json.dumps({'a': ['a dog runs']}))
    flags = [f'--predictions={predictions}', f'--references={references}', '--metrics=ROUGE,CIDEr']
    finished = fake_run.run('score', *flags)
    assert finished.returncode == 0, finished.stderr
    assert 'vocabulary                2\n' in finished.stdout
    assert finished.stdout.count('--train ANNOTATIONS') == 1
