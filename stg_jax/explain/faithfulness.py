"""Measure over many clips how faithful a run's explanations are.

Deletion and insertion curves (Petsiuk et al., RISE, 2018): take away or add the frames, objects or
grid cells of a clip in the order of their relevance and follow the probability of each word.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from stg_jax.data.clip import Clip
from stg_jax.decode.captioner import Captioner, stack_clips
from stg_jax.errors import UserError
from stg_jax.explain import forward, pointing_game
from stg_jax.explain.explain import Explanation, explain_caption, pad_words, word_ids
from stg_jax.explain.occlusion import Part, shown_log_p_fn
from stg_jax.run.build import build_model

STEPS = 10  # steps of a curve, from the whole clip to nothing of it
# Versions of a clip in one call. Always the same number, so that JAX compiles once.
_AT_ONCE = 64

# Maps versions of a clip, (P, ...) bool, to the log-probability of each word, (P, L).
LogPFn = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Curves:
    """Probability of each of L words as a growing share S of the parts of a clip is affected.

    Attributes:
      share_S: of frames, objects or cells, from 0 to 1.
      deletion_LS: the most relevant are taken away first.
      insertion_LS: the most relevant are added first, starting from nothing.
      random_LS: they are taken away in random order, as a baseline.
    """

    share_S: np.ndarray
    deletion_LS: np.ndarray
    insertion_LS: np.ndarray
    random_LS: np.ndarray


def measure(captioner: Captioner, clips: Iterable[Clip]) -> dict[str, Any]:
    """Measure the curves of each branch and, on the toy world, the pointing accuracy.

    Curves follow the words of the run's own captions. They are listed by branch, and those of a
    grid by branch and '_cells'. Pointing is judged on the reference captions of toy clips, because
    only their nouns are certain to name something in the picture.

    Raises:
      UserError: `clips` is empty.
    """
    # Seeded by the number of the clip, so that a measurement over more clips begins like one over
    # fewer.
    curves: dict[str, list[Curves]] = {}
    pointings: dict[str, list] = {}
    num_clips = 0
    for num_clips, clip in enumerate(clips, 1):
        rng = np.random.default_rng(num_clips)
        for name, each in _clip_curves(captioner, clip, rng).items():
            curves.setdefault(name, []).append(each)
        for name, each in _clip_pointings(captioner, clip).items():
            pointings.setdefault(name, []).extend(each)
    if not num_clips:
        raise UserError('there is no clip to explain: name another split')
    return {
        'clips': num_clips,
        'checkpoint_step': captioner.step,
        'faithfulness': {name: summarise(each) for name, each in curves.items()},
        **{name: pointing_game.summarise(each) for name, each in pointings.items() if each},
    }


def follow(
    log_p_fn: LogPFn, relevance_L: np.ndarray, present: np.ndarray, rng: np.random.Generator
) -> Curves:
    """Compute the curves for the words of one caption.

    Args:
      log_p_fn: see `LogPFn`.
      relevance_L: (L, ...) float, relevance of each frame (T,), object (T, N) or cell (T, G) for
        each word.
      present: (...) bool, the parts that exist.
      rng: draws the random order for each word.
    """
    # Deletion, insertion and the baseline of all L words are one call of `log_p_fn`.
    share_S = np.linspace(0, 1, STEPS + 1)
    relevance_LP = relevance_L[:, present]
    chance_LP = rng.random(relevance_LP.shape)
    first_LSP = _first(relevance_LP, share_S)
    versions = np.stack([~first_LSP, first_LSP, ~_first(chance_LP, share_S)])
    shown = np.zeros((*versions.shape[:-1], *present.shape), bool)
    shown[..., present] = versions
    log_p_L = log_p_fn(shown.reshape(-1, *present.shape))
    num_words = len(relevance_LP)
    all_words = np.exp(log_p_L).reshape(3, num_words, len(share_S), -1)
    # Every version yields all L words; a word counts only in the versions of its own order.
    own = all_words[:, np.arange(num_words), :, np.arange(num_words)]
    deletion_LS, insertion_LS, random_LS = np.moveaxis(own, 1, 0)
    return Curves(share_S, deletion_LS, insertion_LS, random_LS)


def summarise(curves: Sequence[Curves]) -> dict[str, list[float] | float]:
    """Average the curves over all words; also compute the area under each."""
    mean = {
        name: np.concatenate([getattr(each, f'{name}_LS') for each in curves]).mean(0)
        for name in ('deletion', 'insertion', 'random')
    }
    mean = {
        'deletion': mean['deletion'],
        'deletion_random': mean['random'],
        'insertion': mean['insertion'],
        # Keeping a random share s is the same as taking away a random share 1 - s.
        'insertion_random': mean['random'][::-1],
    }
    share_S = curves[0].share_S
    area = {f'{name}_area': float(np.trapezoid(y_S, share_S)) for name, y_S in mean.items()}
    num_words = sum(len(each.deletion_LS) for each in curves)
    lists = {name: np.round(y_S.astype(float), 4).tolist() for name, y_S in mean.items()}
    return {'words': num_words, 'share': share_S.tolist()} | lists | area


def _first(value_LP: np.ndarray, share_S: np.ndarray) -> np.ndarray:
    """Mark the share of items with the highest values, (L, S, P)."""
    # Stable, so that ties of equal relevance are broken in the order of the frames.
    rank_LP = (-value_LP).argsort(-1, kind='stable').argsort(-1)
    return rank_LP[:, None] < np.round(share_S * value_LP.shape[-1])[:, None]


def _clip_curves(captioner: Captioner, clip: Clip, rng: np.random.Generator) -> dict[str, Curves]:
    """Compute the curves of objects in the teacher and of frames and cells in the student."""
    features = stack_clips([clip], captioner.run.config.data.objects)
    hypotheses = captioner.search(features)
    ids = word_ids(np.asarray(hypotheses.token_BKL)[0, 0])
    if not ids:
        return {}
    explanation = explain_caption(captioner, clip, ids)
    log_p_fn = functools.partial(_log_p_fn, captioner, forward.as_batch(features), ids)
    return {
        f'{branch}_cells' if part == 'cell' else branch: follow(
            log_p_fn(branch, part), relevance_L, present, rng
        )
        for branch, part, relevance_L, present in _parts(explanation)
    }


def _parts(explanation: Explanation) -> list[tuple[str, Part, np.ndarray, np.ndarray]]:
    """List (branch, part, relevance, presence) of everything that the run reads."""
    parts = []
    if (
        explanation.teacher
        and explanation.relevance_LTN is not None
        and explanation.object_mask_TN.any()
    ):
        objects = explanation.relevance_LTN, explanation.object_mask_TN
        parts.append((explanation.teacher, 'object', *objects))
    # A joint branch is measured once, by its objects: it is teacher and student.
    if explanation.saliency_LT is not None and explanation.student != explanation.teacher:
        num_frames = len(explanation.box_TN4)
        frames = explanation.saliency_LT, np.ones(num_frames, bool)
        parts.append((explanation.student, 'frame', *frames))
    if explanation.relevance_LTG is not None:
        cells = explanation.relevance_LTG, np.ones(explanation.relevance_LTG.shape[1:], bool)
        parts.append((explanation.student, 'cell', *cells))
    return parts


def _log_p_fn(
    captioner: Captioner, batch: forward.DeviceBatch, ids: list[int], branch: str, part: Part
) -> LogPFn:
    """Build the function from versions of a clip to the words' log-probabilities."""
    run = captioner.run
    model = build_model(run.config, run.manifest, run.vocab)
    token_L = pad_words(ids, model.max_words)
    # Linen modules are dataclasses that hash by their fields.
    compiled = shown_log_p_fn(model, branch, part)  # pyright: ignore[reportArgumentType]

    def log_p(shown_P: np.ndarray) -> np.ndarray:
        parts = []
        for start in range(0, len(shown_P), _AT_ONCE):
            part = shown_P[start : start + _AT_ONCE]
            whole = np.pad(part, [(0, _AT_ONCE - len(part))] + [(0, 0)] * (part.ndim - 1))
            log_p_PL = compiled(captioner.params, batch, token_L, whole)
            parts.append(np.asarray(log_p_PL)[: len(part), : len(ids)])
        return np.concatenate(parts)

    return log_p


def _clip_pointings(captioner: Captioner, clip: Clip) -> dict[str, list]:
    """Play the pointing game with the objects and with the cells of a clip, where it can be."""
    run = captioner.run
    if run.manifest.data_set != 'toy':
        return {}
    scene = pointing_game.toy_scene(clip, run.manifest.sources)
    of_objects, of_cells = [], []
    for caption in clip.captions:
        token_L = run.vocab.encode(caption, run.config.data.max_words)
        explanation = explain_caption(captioner, clip, token_L)
        if explanation.relevance_LTN is not None:
            of_objects += pointing_game.point(explanation, clip, scene)
        if explanation.relevance_LTG is not None:
            of_cells += pointing_game.point_cells(explanation, clip, scene)
    return {'pointing': of_objects, 'pointing_cells': of_cells}
