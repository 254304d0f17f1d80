"""Measure over many clips how far the explanations of a run can be believed."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from stg_jax.data.clip import Clip
from stg_jax.decode.captioner import Captioner, stack_clips
from stg_jax.errors import UserError
from stg_jax.explain import faithfulness, pointing
from stg_jax.explain.explain import explain, padded, word_ids
from stg_jax.explain.explanation import Explanation
from stg_jax.explain.faithfulness import Curves
from stg_jax.explain.hiding import shown_log_p_fn
from stg_jax.run.network import build_model

_AT_ONCE = 64  # versions of a clip in one call


def measure(captioner: Captioner, clips: Iterable[Clip]) -> dict[str, Any]:
    """Return the curves of each branch, and pointing accuracy where the things are known.

    Curves follow the words of the run's own captions; pointing is judged on the reference captions
    of toy clips, whose nouns are known to name something.

    Raises:
      UserError: there is no clip.
    """
    curves: dict[str, list[Curves]] = {}
    pointings: list[pointing.Pointing] = []
    num_clips = 0
    for num_clips, clip in enumerate(clips, 1):
        rng = np.random.default_rng(num_clips)
        for branch, of_branch in _curves(captioner, clip, rng).items():
            curves.setdefault(branch, []).append(of_branch)
        pointings += _pointings(captioner, clip)
    if not num_clips:
        raise UserError('there is no clip to explain: name another split')
    result = {branch: faithfulness.summarise(each) for branch, each in curves.items()}
    result = {'clips': num_clips, 'checkpoint_step': captioner.step, 'faithfulness': result}
    return result | ({'pointing': pointing.summarise(pointings)} if pointings else {})


def _curves(captioner: Captioner, clip: Clip, rng: np.random.Generator) -> dict[str, Curves]:
    """Return the curves of objects in the teacher and of frames in the student."""
    batch = stack_clips([clip], captioner.run.config.data.objects)
    hypotheses = captioner.decode_fn()(captioner.params, captioner.inputs(batch))
    ids = word_ids(np.asarray(hypotheses.token_BKL)[0, 0])
    if not ids:
        return {}
    explanation = explain(captioner, clip, ids)
    log_p_fn = functools.partial(_log_p, captioner, batch, ids)
    found = {}
    for branch, relevance_L, present in _items(explanation):
        found[branch] = faithfulness.follow(log_p_fn(branch), relevance_L, present, rng)
    return found


def _items(explanation: Explanation) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Return (branch, relevance, presence) of the objects and the frames, where there are any."""
    items = []
    if explanation.teacher and explanation.object_mask_TN.any():
        items.append((explanation.teacher, explanation.relevance_LTN, explanation.object_mask_TN))
    if explanation.student and explanation.student != explanation.teacher:
        num_frames = len(explanation.box_TN4)
        items.append((explanation.student, explanation.saliency_LT, np.ones(num_frames, bool)))
    return items


def _log_p(captioner: Captioner, batch: Any, ids: list[int], branch: str) -> Callable:
    """Return the function from versions of a clip (P, ...) to the words' log-probabilities."""
    run = captioner.run
    model = build_model(run.config, run.manifest, run.vocab)
    token_L = padded(ids, model.spec.max_words)
    compiled = shown_log_p_fn(model, branch)

    def log_p(shown_P: np.ndarray) -> np.ndarray:
        parts = []
        for start in range(0, len(shown_P), _AT_ONCE):
            part = shown_P[start : start + _AT_ONCE]
            whole = np.pad(part, [(0, _AT_ONCE - len(part))] + [(0, 0)] * (part.ndim - 1))
            log_p_PL = compiled(captioner.params, batch, token_L, whole)
            parts.append(np.asarray(log_p_PL)[: len(part), : len(ids)])
        return np.concatenate(parts)

    return log_p


def _pointings(captioner: Captioner, clip: Clip) -> list[pointing.Pointing]:
    run = captioner.run
    if run.manifest.data_set != 'toy':
        return []
    scene = pointing.toy_scene(clip, run.manifest.sources['seed'])
    found = []
    for caption in clip.captions:
        explanation = explain(captioner, clip, run.vocab.encode(caption, run.config.data.max_words))
        if explanation.relevance_LTN is not None:
            found += pointing.point(explanation, clip, scene)
    return found
