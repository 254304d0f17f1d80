"""Decode a split with a trained run, score it, and leave both in the run folder."""

import dataclasses
from pathlib import Path
from typing import Any

from stg_jax.data.batches import eval_batches, stream_clips
from stg_jax.data.records import read_captions
from stg_jax.decode.captioner import Captioner
from stg_jax.evaluate.predict import predict
from stg_jax.evaluate.score import score
from stg_jax.files import write_json


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Captions of a split and what they are worth.

    Attributes:
      predictions: clip id to its caption.
      references: clip id to its captions.
      scores: what `stg_jax.evaluate.score.score` returns, and how the captions were decoded.
      folder: where predictions.json (COCO results format) and scores.json were written.
    """

    predictions: dict[str, str]
    references: dict[str, list[str]]
    scores: dict[str, Any]
    folder: Path


def evaluate(
    captioner: Captioner,
    split: str,
    *,
    beam_size: int | None = None,
    length_penalty: float | None = None,
) -> Evaluation:
    """Caption every clip of a split exactly once and score the captions.

    The search is that of the run's config where it is not given.

    Raises:
      UserError: the data of the run are gone or damaged, or Java does not run.
    """
    run = captioner.run
    references = read_captions(run.config.data.dir, split)
    decode = captioner.decode_fn(beam_size, length_penalty)
    clips = stream_clips(run.config.data, run.vocab, split)
    batches = eval_batches(clips, clips_per_batch=run.config.decode.batch_size)
    predictions = predict(
        lambda batch: decode(captioner.params, captioner.inputs(batch)), batches, run.vocab
    )
    scores = score(predictions, references) | {
        'split': split,
        'branch': captioner.branch,
        'checkpoint_step': captioner.step,
    }
    scores |= captioner.search(beam_size, length_penalty)
    # The deployed branch has the plain name; another one must not overwrite it.
    name = split if captioner.is_deployed else f'{split}-{captioner.branch}'
    evaluation = Evaluation(predictions, references, scores, run.evaluation(name))
    _write(evaluation)
    return evaluation


def _write(evaluation: Evaluation) -> None:
    coco = [
        {'image_id': clip_id, 'caption': caption}
        for clip_id, caption in evaluation.predictions.items()
    ]
    write_json(evaluation.folder / 'predictions.json', coco)
    write_json(evaluation.folder / 'scores.json', evaluation.scores)
