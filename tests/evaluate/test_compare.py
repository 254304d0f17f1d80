"""Comparing systems: the bootstrap against plain loops, and a refusal of what cannot compare."""

import json

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu

from stg_jax.errors import UserError
from stg_jax.evaluate import java
from stg_jax.evaluate.compare.bootstrap import intervals, paired_bootstrap
from stg_jax.evaluate.compare.systems import System, check_alike, load_system
from stg_jax.evaluate.compare.tables import difference_table, scores_table
from stg_jax.evaluate.metrics import score
from tests.fakes import fake_run

WORDS = ['a', 'man', 'dog', 'runs', 'red', 'ball']
NUM_CLIPS = 60
METRICS = ('bleu', 'rouge', 'cider', 'sacrebleu')


def captions(seed, num=NUM_CLIPS):
    rng = np.random.default_rng(seed)
    return {f'clip{i}': ' '.join(rng.choice(WORDS, rng.integers(3, 9))) for i in range(num)}


@pytest.fixture(scope='module')
def references():
    return {clip: [text, text[::-1]] for clip, text in captions(0).items()}


@pytest.fixture(scope='module')
def results(references):
    """Return results of seeds of a poor system and of a better one, which repeats references."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(java, 'tokenise', list)
        poor = [captions(seed) for seed in (1, 2)]
        better = [
            {
                clip: references[clip][0] if i % 2 else text
                for i, (clip, text) in enumerate(p.items())
            }
            for p in poor
        ]
        return [[score(p, references, metrics=METRICS) for p in group] for group in (poor, better)]


@pytest.fixture(scope='module')
def systems(results):
    return System('poor', results[0]), System('better', results[1])


def test_scores_of_all_clips_once_are_those_of_the_corpus(systems):
    once = systems[0].resampled(np.ones((1, NUM_CLIPS)))
    for name in ('BLEU-1', 'BLEU-4', 'ROUGE-L', 'CIDEr'):
        assert once[name][0] == pytest.approx(systems[0].corpus(name).mean(), rel=1e-9)
    assert once.keys() == {'BLEU-1', 'BLEU-2', 'BLEU-3', 'BLEU-4', 'ROUGE-L', 'CIDEr'}


def test_a_sample_of_clips_scores_as_a_corpus_of_them(systems, references):
    weight_C = np.random.default_rng(3).multinomial(NUM_CLIPS, [1 / NUM_CLIPS] * NUM_CLIPS)
    drawn = [
        clip for clip, times in zip(systems[0].clips, weight_C, strict=True) for _ in range(times)
    ]
    predictions = captions(1)
    bleu, _ = Bleu(4).compute_score(
        {i: references[clip] for i, clip in enumerate(drawn)},
        {i: [predictions[clip]] for i, clip in enumerate(drawn)},
        verbose=0,
    )
    found = System('one seed', systems[0].results[:1]).resampled(weight_C[None].astype(float))
    assert found['BLEU-4'][0] == pytest.approx(100 * bleu[3], rel=1e-9)
    cider = [systems[0].results[0]['per_clip'][clip]['CIDEr'] for clip in drawn]
    assert found['CIDEr'][0] == pytest.approx(np.mean(cider), rel=1e-9)


def test_scores_by_meaning_are_metrics_too(results, tmp_path):
    rng = np.random.default_rng(0)
    fields = {
        'event': 'event right',
        'all_things': 'all things right',
        'everything': 'everything right',
    }
    judged = {clip: dict.fromkeys(fields, bool(rng.random() < 0.7)) for clip in captions(0)}
    share = 100 * np.mean([each['event'] for each in judged.values()])
    result = results[0][0] | {
        'attributes': dict.fromkeys([*fields.values(), 'subject right'], share),
        'attributes_per_clip': judged,
    }
    path = tmp_path / 'scores.json'
    path.write_text(json.dumps(result))
    system = load_system(str(path), 'test')
    assert system.corpus('event right') == pytest.approx(share)
    once = system.resampled(np.ones((1, NUM_CLIPS)))
    assert once['everything right'][0] == pytest.approx(share) and 'subject right' not in once
    low, high = intervals(system, rounds=200, seed=0)['all things right']
    assert low < share < high


def test_a_real_difference_is_found_and_none_is_not(systems):
    poor, better = systems
    found = paired_bootstrap(poor, better, rounds=1000, seed=0)
    for name in ('BLEU-4', 'ROUGE-L', 'CIDEr'):
        gap = better.corpus(name).mean() - poor.corpus(name).mean()
        assert found[name].value == pytest.approx(gap)
        assert 0 < found[name].low < gap < found[name].high
        assert found[name].p < 0.01
    one, another = (System(each.name, each.results[:1]) for each in systems)
    ahead = paired_bootstrap(one, another, rounds=1000, seed=0)['CIDEr']
    back = paired_bootstrap(another, one, rounds=1000, seed=0)['CIDEr']
    assert (back.low, back.high) == pytest.approx((-ahead.high, -ahead.low))
    same = paired_bootstrap(poor, poor, rounds=200, seed=0)['CIDEr']
    # Seeds are drawn for each by itself, as if the same system had been trained twice.
    assert same.value == 0 and same.low < 0 < same.high and same.p > 0.5
    poor = System('one seed', poor.results[:1])
    same = paired_bootstrap(poor, poor, rounds=200, seed=0)['CIDEr']
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)


def test_the_interval_is_that_of_the_mean_of_differences(systems):
    poor, better = (System(each.name, each.results[:1]) for each in systems)
    gap_C = [
        better.results[0]['per_clip'][clip]['CIDEr'] - poor.results[0]['per_clip'][clip]['CIDEr']
        for clip in poor.clips
    ]
    found = paired_bootstrap(poor, better, rounds=4000, seed=1)['CIDEr']
    half = 1.96 * np.std(gap_C) / np.sqrt(NUM_CLIPS)  # by the central limit theorem
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)


def system_of(score_SC):
    """Return a system with these scores of seeds and clips."""
    return System(
        'made up',
        [
            {
                'metrics': {'CIDEr': np.mean(score_C)},
                'per_clip': {str(c): {'CIDEr': x} for c, x in enumerate(score_C)},
                'counts': {},
            }
            for score_C in score_SC
        ],
    )


def test_runs_of_disjoint_clips_are_pooled_as_folds_of_all(results, tmp_path):
    whole, again = results[0]

    def part(result, start):
        chosen = list(result['per_clip'])[start::2]

        def pick(table):
            return {clip: table[clip] for clip in chosen}

        counts = {name: pick(table) for name, table in result['counts'].items()}
        return {**result, 'per_clip': pick(result['per_clip']), 'counts': counts}

    folds = [part(whole, 0), part(whole, 1), part(again, 0), part(again, 1)]
    pooled = load_system(str(write_seeds(tmp_path / 'folds', folds)), 'test')
    expected = System('whole', results[0])
    assert pooled.clips == expected.clips
    for name in ('BLEU-4', 'ROUGE-L', 'CIDEr'):
        np.testing.assert_allclose(pooled.corpus(name), expected.corpus(name), rtol=1e-9)
    # Only one run of the second fold: there is no second run of all clips.
    with pytest.raises(UserError, match='different clips'):
        load_system(str(write_seeds(tmp_path / 'odd', folds[:3])), 'test')


@pytest.mark.parametrize(('of_seeds', 'of_clips'), [(5.0, 0.0), (0.0, 30.0), (5.0, 30.0)])
def test_an_interval_covers_other_clips_and_other_seeds(of_seeds, of_clips):
    seed_S1 = of_seeds * np.array([[-1.2], [0.3], [-0.4], [1.5], [-0.2]])
    clip_C = of_clips * np.random.default_rng(0).normal(size=100)
    (low, high) = intervals(system_of(50 + seed_S1 + clip_C), rounds=8000, seed=0)['CIDEr']
    variance = seed_S1.var(ddof=1) / 5 + clip_C.var() / 100
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(variance), rel=0.06)


def test_a_difference_within_the_spread_of_seeds_is_none():
    clips = np.random.default_rng(0).normal(size=(1, 1000))
    seeds = np.array([[-6.0], [5.0], [-4.0], [6.0], [0.0]])
    base, other = system_of(50 + clips + seeds), system_of(53 + clips + seeds)
    found = paired_bootstrap(base, other, rounds=1000, seed=0)['CIDEr']
    assert found.value == pytest.approx(3)
    assert found.low < 0 < found.high and found.p > 0.1


def test_tables_are_markdown(systems):
    poor, better = systems
    text = scores_table([poor, System('a|b', better.results[:1])], rounds=100, seed=0)
    assert text.splitlines()[0].startswith('| system | seeds | BLEU-1 |')
    assert r'a\|b' in text
    scores = poor.corpus('CIDEr')
    assert f'{scores.mean():.2f} ± {abs(scores[0] - scores[1]) / 2**0.5:.2f}' in text
    found = paired_bootstrap(poor, better, rounds=200, seed=0)
    rows = difference_table(poor, better, found).splitlines()
    assert len({row.replace(r'\|', '').count('|') for row in rows}) == 1
    assert f'{found["CIDEr"].value:+.2f} (' in rows[-2]


def test_scores_of_other_clips_or_another_tokenizer_do_not_compare(results):
    first = results[0][0]
    fewer = first | {'per_clip': dict(list(first['per_clip'].items())[1:])}
    with pytest.raises(UserError, match="different clips, such as 'clip0'"):
        check_alike(first, fewer, 'a', 'b')
    other = first | {'versions': first['versions'] | {'tokenizer': 'words'}}
    with pytest.raises(UserError, match='another tokenizer'):
        check_alike(first, other, 'a', 'b')


def test_runs_seeds_and_files_are_read_and_what_is_missing_is_named(results, tmp_path):
    for seed, result in enumerate(results[0]):
        run = tmp_path / 'poor' / f'seed-{seed}'
        (run / 'eval' / 'test').mkdir(parents=True)
        (run / 'config.json').write_text('{}')
        (run / 'eval' / 'test' / 'scores.json').write_text(json.dumps(result))
    (tmp_path / 'better.json').write_text(json.dumps(results[1][0]))
    assert len(load_system(str(tmp_path / 'poor'), 'test').results) == 2
    assert len(load_system(str(tmp_path / 'poor' / 'seed-1'), 'test').results) == 1
    finished = fake_run.run(
        'compare',
        tmp_path / 'poor',
        tmp_path / 'better.json',
        '--rounds=100',
        f'--out={tmp_path / "table.md"}',
    )
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / 'table.md').read_text() == finished.stdout
    assert ' ± ' in finished.stdout
    last = finished.stdout.splitlines()[-1]
    assert last.startswith('Made with 60 clips, 120 references, tokens: PTB')
    assert 'nrefs:2' in last
    with pytest.raises(UserError, match="no scores of split 'val'"):
        load_system(str(tmp_path), 'val')
    missing = r'seed-0.*evaluate\.py --split=val .*--split=test \(found: test\)'
    for path in ('poor', 'poor/seed-0'):
        with pytest.raises(UserError, match=missing):
            load_system(str(tmp_path / path), 'val')
    for path in ('nix.json', 'nix'):
        with pytest.raises(UserError, match=r'does not exist: .*score\.py wrote with --out'):
            load_system(str(tmp_path / path), 'test')


DECODED = {
    'split': 'test',
    'branch': 'scene',
    'beam_size': 5,
    'length_penalty': 0.6,
    'checkpoint': 'best',
    'average': 1,
    'checkpoints': {'run': 'step 7'},
}


def write_seeds(folder, results):
    for seed, result in enumerate(results):
        run = folder / f'seed-{seed}'
        (run / 'eval' / 'test').mkdir(parents=True)
        (run / 'config.json').write_text('{}')
        (run / 'eval' / 'test' / 'scores.json').write_text(json.dumps(result))
    return folder


@pytest.mark.parametrize(
    ('change', 'part'),
    [
        ({'beam_size': 1}, r'beam size \(5 and 1\)'),
        ({'length_penalty': 0.0}, r'length penalty \(0.6 and 0.0\)'),
        ({'average': 2}, r'averaged checkpoints \(1 and 2\)'),
        ({'checkpoint': 'latest'}, r'checkpoint rule \(best and latest\)'),
        ({'split': 'val'}, r'split \(test and val\)'),
    ],
)
def test_seeds_that_were_decoded_differently_are_no_system(results, tmp_path, change, part):
    seeds = [results[0][0] | DECODED, results[0][1] | DECODED | change]
    with pytest.raises(UserError, match=f'seed-1.* differ in {part}: evaluate all'):
        load_system(str(write_seeds(tmp_path / 'system', seeds)), 'test')


def test_systems_that_were_decoded_differently_are_compared_with_a_notice(results, tmp_path):
    greedy = {'beam_size': 1, 'average': 3, 'objective': 'scst'}
    first = write_seeds(tmp_path / 'a', [each | DECODED for each in results[0]])
    second = write_seeds(tmp_path / 'b', [each | DECODED | greedy for each in results[1]])
    finished = fake_run.run('compare', first, second, '--rounds=100')
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines()[0] == (
        'Trained or decoded differently: objective (xe and scst), beam size (5 and 1), '
        'averaged checkpoints (1 and 3).'
    )
    alike = fake_run.run('compare', first, first, '--rounds=100')
    assert alike.stdout.startswith('| metric |')


def test_an_evaluation_that_does_not_say_how_it_was_decoded_is_refused(results, tmp_path):
    old = {key: value for key, value in DECODED.items() if key not in ('average', 'checkpoint')}
    system = write_seeds(tmp_path / 'old', [results[0][0] | old])
    with pytest.raises(UserError, match='evaluate it again'):
        load_system(str(system), 'test')
