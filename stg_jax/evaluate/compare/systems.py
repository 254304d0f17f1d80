"""Stored scores of the systems to compare, each trained with one seed or several."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from stg_jax.datasets.toy.attributes import SCORES
from stg_jax.errors import UserError
from stg_jax.evaluate.summable import BleuCounts, counts_of_clips, meteor_of_counts
from stg_jax.files import read_json

_NEEDED = {'metrics', 'per_clip', 'counts', 'versions', 'num_references'}
_EVALUATED = {'split', 'branch', 'beam_size', 'length_penalty', 'checkpoint', 'average'}
_BLEU = tuple(f'BLEU-{n}' for n in range(1, 5))


@dataclasses.dataclass(frozen=True)
class System:
    """The scores of one system on a split.

    Attributes:
      name: the path that the user gave.
      results: for each seed the result of `stg_jax.evaluate.metrics.score`.
    """

    name: str
    results: Sequence[Mapping[str, Any]]

    @property
    def clips(self) -> list[str]:
        """Ids of the clips, sorted: those of two systems are drawn together."""
        return sorted(self.results[0]['per_clip'])

    def corpus(self, metric: str) -> np.ndarray:
        """Scores of the seeds in a metric."""
        return np.array([result['metrics'][metric] for result in self.results])

    def resampled(
        self, weight_YC: np.ndarray, weight_YS: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Compute each metric on Y samples of the clips and seeds, in percent.

        Args:
          weight_YC: the number of times that each of the C clips is in each sample.
          weight_YS: the same of the S seeds; by default each of them once.
        """
        per_seed = [_resampled(result, self.clips, weight_YC) for result in self.results]
        return {
            name: _mean_over_seeds(np.array([each[name] for each in per_seed]), weight_YS)
            for name in per_seed[0]
        }


def _mean_over_seeds(score_SY: np.ndarray, weight_YS: np.ndarray | None) -> np.ndarray:
    mean_Y, num_seeds = score_SY.mean(0), len(score_SY)
    if weight_YS is None or num_seeds == 1:
        return mean_Y
    drawn_Y = np.einsum('SY,YS->Y', score_SY, weight_YS) / num_seeds
    # Draws from n seeds vary by (n - 1) / n of what n new ones would: with five seeds an interval
    # would be a tenth too narrow.
    return mean_Y + (drawn_Y - mean_Y) * np.sqrt(num_seeds / (num_seeds - 1))


def load_system(path: str, split: str) -> System:
    """Read the scores of a run, of a folder of runs (its seeds), or of a JSON file of score.py.

    Raises:
      UserError: no scores were found, or the seeds were scored differently.
    """
    found = epath.Path(path)
    if found.is_dir():
        files = [found / 'eval' / split / 'scores.json']
        if not files[0].exists() and not (found / 'config.json').exists():
            # No run itself, so a folder of runs: the seeds of a system, as sweep.py writes them.
            runs = sorted(run for run in found.iterdir() if (run / 'config.json').exists())
            files = [run / 'eval' / split / 'scores.json' for run in runs]
        if not files:
            raise UserError(
                f'{path} holds no scores of split {split!r}: it is not a run and contains none'
            )
    else:
        files = [found]
    results = [_read(file) for file in files]
    for result, file in zip(results, files, strict=True):
        if differs := decoded_differently(results[0], result):
            raise UserError(
                f'{files[0]} and {file} are seeds of one system, but differ in '
                f'{", ".join(differs)}: evaluate all of its seeds alike'
            )
    system = System(path.rstrip('/'), _pooled(results))
    # Scores of different clips or tokens must not be averaged over seeds.
    for result, file in zip(system.results, files, strict=False):
        check_alike(system.results[0], result, str(files[0]), str(file))
    return system


def _pooled(results: Sequence[Mapping]) -> Sequence[Mapping]:
    """Join results of disjoint clips, as of the folds of a cross-validation, to one of all clips.

    With several results of each fold, the first ones of all folds make up one, and so on. Other
    results are returned as they are.
    """
    of_clips: dict[frozenset, list[Mapping]] = {}
    for result in results:
        of_clips.setdefault(frozenset(result['per_clip']), []).append(result)
    are_disjoint = len(frozenset().union(*of_clips)) == sum(map(len, of_clips))
    if not are_disjoint or len(set(map(len, of_clips.values()))) > 1:
        return results
    return [_joined(parts) for parts in zip(*of_clips.values(), strict=True)]


def _joined(parts: Sequence[Mapping]) -> Mapping:
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    for other in parts[1:]:
        _refuse_different(_how_scored(first), _how_scored(other), 'a fold', 'another fold')
    joined = {
        **first,
        'per_clip': _union(part['per_clip'] for part in parts),
        'counts': {
            name: _union(part['counts'][name] for part in parts) for name in first['counts']
        },
        'num_references': sum(part['num_references'] for part in parts),
    }
    # Of a corpus that nobody has scored as a whole, what follows from its clips.
    once_1C = np.ones((1, len(joined['per_clip'])))
    scores = System('', [joined]).resampled(once_1C)
    metrics = {name: float(scores[name][0]) for name in first['metrics'] if name in scores}
    return {**joined, 'metrics': metrics}


def _union(tables: Iterable[Mapping]) -> dict[str, Any]:
    return {key: value for table in tables for key, value in table.items()}


def check_alike(first: Mapping, other: Mapping, first_name: str, other_name: str) -> None:
    """Check that two results are of the same clips, references and tokenizer.

    Raises:
      UserError: they are not, so a comparison would have no meaning.
    """
    if first['per_clip'].keys() != other['per_clip'].keys():
        different = first['per_clip'].keys() ^ other['per_clip'].keys()
        raise UserError(
            f'{first_name} and {other_name} are of different clips, such as {min(different)!r}: '
            'score both on the same split'
        )
    ours, theirs = (
        {'number of references': each['num_references'], **_how_scored(each)}
        for each in (first, other)
    )
    _refuse_different(ours, theirs, first_name, other_name)


def _how_scored(result: Mapping) -> dict[str, Any]:
    # Each of these moves scores by more than systems usually differ.
    return {
        'tokenizer': result['versions']['tokenizer'],
        'METEOR': result['versions'].get('meteor'),
        'metrics': list(result['metrics']),
    }


def _refuse_different(
    first: Mapping[str, Any], other: Mapping[str, Any], first_name: str, other_name: str
) -> None:
    for what in first:
        if first[what] != other[what]:
            raise UserError(
                f'{first_name} and {other_name} were scored with another {what} '
                f'({first[what]} and {other[what]}): score both again'
            )


def decoded_differently(first: Mapping, other: Mapping) -> list[str]:
    """List the settings in which two results differ, such as 'beam size (5 and 1)'.

    Empty for captions scored by launch/score.py, because their settings are unknown.
    """
    ours, theirs = _how_decoded(first), _how_decoded(other)
    return [
        f'{what} ({ours[what]} and {theirs[what]})'
        for what in ours
        if theirs and ours[what] != theirs[what]
    ]


def _how_decoded(result: Mapping) -> dict[str, Any]:
    # Scores of launch/score.py hold no settings: the captions came from a file.
    if 'checkpoints' not in result:
        return {}
    return {
        'split': result['split'],
        # Scores of self-critical training are reported apart; results of older versions are of xe.
        'objective': result.get('objective', 'xe'),
        'branch': result['branch'],
        'beam size': result['beam_size'],
        'length penalty': result['length_penalty'],
        'checkpoint rule': result['checkpoint'],
        'averaged checkpoints': result['average'],
        'runs in the ensemble': len(result['checkpoints']),
    }


def _read(path: epath.Path) -> Mapping[str, Any]:
    if not path.exists():
        raise UserError(f'{path} does not exist: {_remedy(path)}')
    result = read_json(path)
    found = result.keys() if isinstance(result, dict) else set()
    # Files of older versions lack the counts that the bootstrap resamples.
    if not found >= (_NEEDED | _EVALUATED if 'checkpoints' in found else _NEEDED):
        raise UserError(f'{path} holds no scores of this version of stg_jax: evaluate it again')
    return _with_meaning(result)


def _with_meaning(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add the scores of toy captions by their meaning to the metrics, those that all clips have."""
    if 'attributes_per_clip' not in result:
        return result
    names = {field: SCORES[field] for field in ('event', 'all_things', 'everything')}
    judged = result['attributes_per_clip']
    return {
        **result,
        'metrics': result['metrics']
        | {name: result['attributes'][name] for name in names.values()},
        'per_clip': {
            clip: scores | {name: 100.0 * judged[clip][field] for field, name in names.items()}
            for clip, scores in result['per_clip'].items()
        },
    }


def _remedy(path: epath.Path) -> str:
    """Say how to get the missing scores."""
    if path.name != 'scores.json' or path.parent.parent.name != 'eval':
        return 'name a run, a folder of runs, or a file that launch/score.py wrote with --out'
    split, evaluations = path.parent.name, path.parent.parent
    evaluate = f'run launch/evaluate.py --split={split} on its run first'
    found = evaluations.iterdir() if evaluations.exists() else ()
    others = sorted(each.name for each in found if (each / 'scores.json').exists())
    if not others:
        return evaluate
    return f'{evaluate}, or pass --split={others[0]} (found: {", ".join(others)})'


def _resampled(
    result: Mapping, clips: Sequence[str], weight_YC: np.ndarray
) -> dict[str, np.ndarray]:
    per_clip = result['per_clip']
    # BLEU and METEOR of a corpus are not means over clips: they follow from summed counts, below.
    names = [name for name in per_clip[clips[0]] if name not in (*_BLEU, 'METEOR')]
    value_CM = np.array([[per_clip[clip][name] for name in names] for clip in clips])
    value_MY = (weight_YC @ value_CM.reshape(len(clips), len(names)) / len(clips)).T
    scores = dict(zip(names, value_MY, strict=True))
    rows = {name: [of_clip[clip] for clip in clips] for name, of_clip in result['counts'].items()}
    if 'BLEU' in rows:
        bleu_Y4 = BleuCounts.of_clips(rows['BLEU']).total(weight_YC).scores()
        scores |= dict(zip(_BLEU, 100 * bleu_Y4.T, strict=True))
    if 'METEOR' in rows:
        scores['METEOR'] = 100 * meteor_of_counts(weight_YC @ counts_of_clips(rows['METEOR']))
    return scores
