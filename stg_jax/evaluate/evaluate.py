"""Decode a split with one or more trained runs, score it, and write the result to the run."""

import dataclasses
import datetime
import hashlib
import itertools
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from stg_jax.data.batches import stream_clips
from stg_jax.data.captions import read_captions
from stg_jax.decode.captioner import Captioner
from stg_jax.decode.ensemble import Ensemble
from stg_jax.decode.split import predict, split_batches
from stg_jax.evaluate.metrics import made_with, score
from stg_jax.evaluate.toy import meaning_scores
from stg_jax.files import check_writable, write_json
from stg_jax.parallel import processes
from stg_jax.run.folder import RunFolder
from stg_jax.visualize.results_page import write_results_page

# Every look at the test split is recorded: the more looks, the less its score is worth.
HELD_OUT = 'test'


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Captions of a split and their scores.

    Attributes:
      predictions: clip id to its caption.
      references: clip id to its captions.
      scores: what `stg_jax.evaluate.metrics.score` returns, how the captions were decoded, which
        checkpoints were used and why, the number of looks at the test split, and for the toy world
        the scores by meaning of `stg_jax.evaluate.toy`.
      folder: where predictions.json (COCO results format), scores.json and index.html were written.
    """

    predictions: dict[str, str]
    references: dict[str, list[str]]
    scores: dict[str, Any]
    folder: epath.Path

    def __repr__(self) -> str:
        scores = ', '.join(f'{name} {value:.1f}' for name, value in self.scores['metrics'].items())
        return f'Evaluation({self.scores["num_clips"]} clips, {scores}, {str(self.folder)!r})'


def evaluate_captioner(
    captioner: Captioner | Ensemble,
    split: str,
    *,
    data_dir: str | None = None,
    beam_size: int | None = None,
    length_penalty: float | None = None,
    checkpoint: str = 'best',
    average: int = 1,
) -> Evaluation | None:
    """Caption every clip of a split exactly once, on all devices, and score the captions.

    Non-default options are appended to the folder name, so they never overwrite the standard
    result. On a pod every process calls this and decodes its part of the clips.

    Args:
      captioner: one run, or several that write captions together.
      split: split of the data.
      data_dir: folder of the data; by default that on which the run was trained.
      beam_size: the run's own by default.
      length_penalty: the run's own by default.
      checkpoint: the rule that the captioner was loaded with.
      average: the number of averaged checkpoints that it was loaded with.

    Returns:
      The captions and scores on host 0, None on the other hosts of a pod.

    Raises:
      UserError: the data of the run are gone or damaged, or the folder cannot be written.
    """
    run = captioner.run
    # On all hosts: one that failed by itself would leave the others waiting for its clips.
    of = processes.together(lambda: run.reading(data_dir)) if data_dir else run
    options = captioner.search_options(beam_size, length_penalty)
    about = _about(captioner, split) | options | {'checkpoint': checkpoint, 'average': average}
    if data_dir:
        about['data'] = data_dir
    folder = run.evaluation(folder_name(captioner, about))
    references = processes.together(lambda: read_captions(of.config.data.dir, split))
    clips = processes.together(lambda: stream_clips(of.config.data, run.vocab, split))
    processes.on_first(lambda: check_writable(folder / 'scores.json'))
    batches = split_batches(clips, captioner.mesh, run.config.decode.batch_size)
    predictions = predict(lambda batch: captioner.search(batch, **options), batches, run.vocab)
    if not processes.is_first():
        return None
    # Before scoring, so that captions that took minutes survive a full disk or a lack of memory.
    _write_predictions(folder, predictions)
    about |= _count_looks(captioner, split, about)
    # Normalised captions are enough here: they are only compared with the words of captions.
    train_captions = itertools.chain(*read_captions(run.config.data.dir, 'train').values())
    scores = score(predictions, references, train_captions=train_captions) | about
    scores |= meaning_scores(of, predictions, references)
    evaluation = Evaluation(predictions, references, scores, folder)
    _write_scores(evaluation)
    return evaluation


def _members(captioner: Captioner | Ensemble) -> tuple[Captioner, ...]:
    return captioner.members if isinstance(captioner, Ensemble) else (captioner,)


def _about(captioner: Captioner | Ensemble, split: str) -> dict[str, Any]:
    members = _members(captioner)
    return {
        'split': split,
        'branch': captioner.branch,
        'objective': '+'.join(dict.fromkeys(m.run.config.train.objective for m in members)),
        'checkpoint_step': members[0].step,
        'checkpoints': {str(member.run.path): member.why for member in members},
    }


def _count_looks(
    captioner: Captioner | Ensemble, split: str, about: dict[str, Any]
) -> dict[str, int]:
    """Count a look at the test split in every member; report the largest count.

    Other splits are not counted: choices are made on validation, test is only for the last word.
    """
    if split != HELD_OUT:
        return {}
    return {'test_looks': max(count_look(each.run, about) for each in _members(captioner))}


def count_look(run: RunFolder, about: Mapping[str, Any]) -> int:
    """Record a look at the test split; return how many there were, including this one.

    Each look is a file of its own in RUN/eval/test_looks/, so that simultaneous evaluations are
    all counted.
    """
    folder = run.evaluation(f'{HELD_OUT}_looks')
    now = datetime.datetime.now(datetime.UTC)
    name = f'{now:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}.json'
    write_json(folder / name, {'time': now.isoformat(timespec='seconds'), **about})
    return sum(path.suffix == '.json' for path in folder.iterdir())


def folder_name(captioner: Captioner | Ensemble, about: Mapping[str, Any]) -> str:
    """Name the folder of an evaluation after its split and every non-default option."""
    usual, rule = captioner.search_options(), about['checkpoint']
    # In a fixed order, so that equal settings always give the same name.
    parts = [
        (about['branch'], captioner.is_deployed),
        (f'average{about["average"]}', about['average'] == 1),
        (f'beam{about["beam_size"]}', about['beam_size'] == usual['beam_size']),
        (
            f'penalty{about["length_penalty"]}',
            about['length_penalty'] == usual['length_penalty'],
        ),
        (f'step{rule}' if rule.isdecimal() else rule, rule == 'best'),
    ]
    named = [about['split'], *(part for part, is_usual in parts if not is_usual)]
    if 'data' in about:
        named += ['data', _name_of([epath.Path(about['data'])])]
    members = _members(captioner)
    if len(members) > 1:
        named += ['ensemble', _name_of([member.run.path for member in members])]
    return '-'.join(named)


def _name_of(paths: Sequence[epath.Path]) -> str:
    """Join the names of folders and a hash of their paths: runs of two sweeps share their names."""
    # By the resolved paths, so that the same folders always give the same name.
    where = '\n'.join(str(epath.Path(path).resolve()) for path in paths)
    # File systems limit names to 255 bytes; the hash keeps shortened names apart.
    names = '+'.join(path.name for path in paths).encode()[:150].decode(errors='ignore')
    return f'{names}-{hashlib.sha256(where.encode()).hexdigest()[:8]}'


def facts(scores: dict[str, Any]) -> list[str]:
    """Describe scores in sentences: what was decoded, how, and how the checkpoint was chosen."""
    sentences = [
        *([f'data: {scores["data"]}'] if 'data' in scores else []),
        '{branch} branch, beam {beam_size}, length penalty {length_penalty}'.format(**scores),
        *(f'{path}: {why}' for path, why in scores['checkpoints'].items()),
    ]
    if 'test_looks' in scores:
        sentences.append(f'looks at the test split so far: {scores["test_looks"]}')
    return [*sentences, made_with(scores)]


def _write_predictions(folder: epath.Path, predictions: Mapping[str, str]) -> None:
    # Scores of an earlier evaluation must not be found beside captions that they are not of.
    (folder / 'scores.json').unlink(missing_ok=True)
    # COCO results format: other evaluation code reads it, as launch/score.py does.
    coco = [{'image_id': clip_id, 'caption': caption} for clip_id, caption in predictions.items()]
    write_json(folder / 'predictions.json', coco)


def _write_scores(evaluation: Evaluation) -> None:
    write_json(evaluation.folder / 'scores.json', evaluation.scores)
    write_results_page(
        evaluation.folder / 'index.html',
        title=f'{evaluation.folder.parent.parent.name}: {evaluation.folder.name}',
        facts=facts(evaluation.scores),
        result=evaluation.scores,
        predictions=evaluation.predictions,
        references=evaluation.references,
    )
