"""Decode a split with one or more trained runs, score it, and leave all in the run folder."""

import dataclasses
import datetime
import hashlib
import itertools
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from stg_jax import files
from stg_jax.data.batches import stream_clips
from stg_jax.data.captions import read_captions
from stg_jax.decode.candidates import predict
from stg_jax.decode.captioner import Captioner
from stg_jax.decode.ensemble import Ensemble
from stg_jax.evaluate.metrics import made_with, score
from stg_jax.evaluate.share import Share
from stg_jax.files import check_writable, write_json
from stg_jax.run.folder import RunFolder
from stg_jax.visualize.results_page import write_results_page

HELD_OUT = 'test'


def count_look(run: RunFolder, split: str, about: Mapping[str, Any]) -> int | None:
    """Write down a look at the test split; return how many there were, this one included.

    Each look is a file of its own in RUN/eval/test_looks/, so that evaluations at the same time
    are all counted. Other splits are not counted: None.
    """
    if split != HELD_OUT:
        return None
    folder = run.evaluation(f'{HELD_OUT}_looks')
    now = datetime.datetime.now(datetime.UTC)
    name = f'{now:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}.json'
    files.write_json(folder / name, {'time': now.isoformat(timespec='seconds'), **about})
    return sum(path.suffix == '.json' for path in folder.iterdir())


_ALONE = Share()


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Captions of a split and what they are worth.

    Attributes:
      predictions: clip id to its caption.
      references: clip id to its captions.
      scores: what `stg_jax.evaluate.metrics.score` returns, how the captions were decoded, which
        checkpoints were taken and why, and how often the test split was looked at.
      folder: where predictions.json (COCO results format), scores.json and index.html were written.
    """

    predictions: dict[str, str]
    references: dict[str, list[str]]
    scores: dict[str, Any]
    folder: epath.Path


def evaluate(
    captioner: Captioner | Ensemble,
    split: str,
    *,
    beam_size: int | None = None,
    length_penalty: float | None = None,
    checkpoint: str = 'best',
    average: int = 1,
    share: Share = _ALONE,
) -> Evaluation | None:
    """Caption every clip of a split exactly once and score the captions.

    The search is that of the run's config where it is not given; `checkpoint` and `average` are
    those that the captioner was loaded with. All that differs from the defaults stands in the name
    of the folder, so that it never takes the place of the result that others compare. With several
    hosts each captions its share, and all but host 0 get None.

    Raises:
      UserError: the data of the run are gone or damaged, or the folder cannot be written.
    """
    run = captioner.run
    references = read_captions(run.config.data.dir, split)
    decode = captioner.decode_fn(beam_size, length_penalty)
    clips = stream_clips(run.config.data, run.vocab, split)
    batches = share.batches(clips, run.config.decode.batch_size)
    about = _about(captioner, split) | captioner.search(beam_size, length_penalty)
    about |= {'checkpoint': checkpoint, 'average': average}
    folder = run.evaluation(folder_name(captioner, about))
    if not share.host:
        check_writable(folder / 'scores.json')
    predictions = share.joined(
        predict(lambda batch: decode(captioner.params, captioner.inputs(batch)), batches, run.vocab)
    )
    if predictions is None:
        return None
    about |= _count_looks(captioner, split, about)
    train_captions = itertools.chain(*read_captions(run.config.data.dir, 'train').values())
    scores = score(predictions, references, train_captions=train_captions) | about
    evaluation = Evaluation(predictions, references, scores, folder)
    _write(evaluation)
    return evaluation


def _members(captioner: Captioner | Ensemble) -> tuple[Captioner, ...]:
    return captioner.members if isinstance(captioner, Ensemble) else (captioner,)


def _about(captioner: Captioner | Ensemble, split: str) -> dict[str, Any]:
    members = _members(captioner)
    return {
        'split': split,
        'branch': captioner.branch,
        'checkpoint_step': members[0].step,
        'checkpoints': {str(member.run.path): member.why for member in members},
    }


def _count_looks(
    captioner: Captioner | Ensemble, split: str, about: dict[str, Any]
) -> dict[str, int]:
    """Return {'test_looks': of the run that was looked at most}, {} of another split."""
    looks = [count_look(member.run, split, about) for member in _members(captioner)]
    return {'test_looks': max(looks)} if split == HELD_OUT else {}


def folder_name(captioner: Captioner | Ensemble, about: Mapping[str, Any]) -> str:
    """Return the name of the folder of an evaluation: its split and all that is not the default."""
    usual, rule = captioner.search(), about['checkpoint']
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
    members = _members(captioner)
    if len(members) > 1:
        named += ['ensemble', _name_of_runs([member.run.path for member in members])]
    return '-'.join(named)


def _name_of_runs(paths: Sequence[epath.Path]) -> str:
    """Return the names of runs and a hash of where they are: runs of sweeps have equal names."""
    where = '\n'.join(str(epath.Path(path).resolve()) for path in paths)
    # File systems end names at 255 bytes.
    names = '+'.join(path.name for path in paths).encode()[:150].decode(errors='ignore')
    return f'{names}-{hashlib.sha256(where.encode()).hexdigest()[:8]}'


def facts(scores: dict[str, Any]) -> list[str]:
    """Return the sentences that belong to scores: what was decoded, how, and how it was chosen."""
    sentences = [
        '{branch} branch, beam {beam_size}, length penalty {length_penalty}'.format(**scores),
        *(f'{path}: {why}' for path, why in scores['checkpoints'].items()),
    ]
    if 'test_looks' in scores:
        sentences.append(f'looks at the test split so far: {scores["test_looks"]}')
    return [*sentences, made_with(scores)]


def _write(evaluation: Evaluation) -> None:
    coco = [
        {'image_id': clip_id, 'caption': caption}
        for clip_id, caption in evaluation.predictions.items()
    ]
    write_json(evaluation.folder / 'predictions.json', coco)
    write_json(evaluation.folder / 'scores.json', evaluation.scores)
    write_results_page(
        evaluation.folder / 'index.html',
        title=f'{evaluation.folder.parent.parent.name}: {evaluation.folder.name}',
        facts=facts(evaluation.scores),
        result=evaluation.scores,
        predictions=evaluation.predictions,
        references=evaluation.references,
    )
