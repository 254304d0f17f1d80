"""Explain a caption of a clip: which frames and objects each word came from, by branch."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stg_jax.data.clip import Clip
from stg_jax.data.vocab import BOS, EOS, PAD
from stg_jax.decode.captioner import Captioner, stack_clips
from stg_jax.explain import branch as reading
from stg_jax.explain.attention import logits_and_attention
from stg_jax.explain.branch import Batch
from stg_jax.explain.explanation import Explanation
from stg_jax.explain.hiding import cell_saliency, cells_make_frames, frame_saliency
from stg_jax.explain.links import object_links
from stg_jax.explain.relevance import PATH, object_relevance
from stg_jax.model.captioner import CaptioningModel
from stg_jax.run.network import build_model

PyTree = Any


def explain(captioner: Captioner, clip: Clip, token_L: Sequence[int]) -> Explanation:
    """Explain one caption of a clip, whichever branch it came from.

    Args:
      captioner: the run; all of its branches are explained, not only the one that it decodes with.
      clip: features of the clip.
      token_L: ids of the caption's words, with or without BOS, EOS and PAD.

    Raises:
      UserError: the clip's features do not fit the run.
    """
    run = captioner.run
    model = build_model(run.config, run.manifest, run.vocab)
    batch = stack_clips([clip], run.config.data.objects)
    captioner.inputs(batch)  # refuses features that do not fit
    ids = word_ids(token_L)[: model.spec.max_words]
    has_cells = cells_make_frames(run.manifest.extractor, batch)
    explain_fn = _explain_fn(model, has_cells)
    found = explain_fn(captioner.params, batch, padded(ids, model.spec.max_words))
    of_words = jax.tree.map(lambda x_L: np.asarray(x_L)[: len(ids)], found)
    num_objects = batch['object_mask'].shape[2]
    teacher = reading.teacher_of(model)
    return Explanation(
        words=tuple(run.vocab.words[i] for i in ids),
        box_TN4=batch['box'][0],
        score_TN=_fit(clip.score, num_objects, 0),
        label_TN=_fit(clip.label, num_objects, -1),
        object_mask_TN=batch['object_mask'][0],
        teacher=teacher,
        student=reading.student_of(model),
        links=object_links(batch) if teacher else None,
        **of_words,
    )


def word_ids(token_L: Sequence[int]) -> list[int]:
    """Return the ids of the words alone, up to the first EOS."""
    tokens = [int(token) for token in token_L]
    end = tokens.index(EOS) if EOS in tokens else len(tokens)
    return [token for token in tokens[:end] if token not in (PAD, BOS)]


def padded(ids: Sequence[int], max_words: int) -> np.ndarray:
    """Return BOS, the words, EOS and PAD: as many tokens for every caption, compiled once."""
    token_L = np.full(max_words + 2, PAD, np.int32)
    token_L[: len(ids) + 2] = [BOS, *ids, EOS]
    return token_L


@functools.lru_cache(maxsize=4)
def _explain_fn(
    model: CaptioningModel, has_cells: bool
) -> Callable[[PyTree, Batch, np.ndarray], dict[str, Any]]:
    """Return what computes the fields of `Explanation` that have a row for each word."""
    return jax.jit(functools.partial(_explain_words, model, has_cells))


def _explain_words(model, has_cells, params, batch, token_L):
    logits, attention = {}, {}
    for name in model.spec.decoders:
        logits_BKLV, weight_BKLT = logits_and_attention(
            model, params, batch, token_L[None, None, :-1], name
        )
        logits[name], attention[name] = logits_BKLV[0, 0], weight_BKLT[0, 0]
    of_branch = (model, params, batch, token_L)
    teacher, student = reading.teacher_of(model), reading.student_of(model)
    return {
        'log_p': {name: reading.word_log_p(x_LV, token_L[1:]) for name, x_LV in logits.items()},
        'attention': attention,
        'relevance_LTN': object_relevance(*of_branch, teacher, PATH) if teacher else None,
        'saliency_LT': frame_saliency(*of_branch, student) if student else None,
        'saliency_LTN': cell_saliency(*of_branch, student) if student and has_cells else None,
        'disagreement_L': _divergence(logits) if len(logits) > 1 else None,
    }


def _divergence(logits: dict[str, jax.Array]) -> jax.Array:
    """Return KL(scene || object) of the two distributions over the word at each place (L,)."""
    student_LV, teacher_LV = map(jax.nn.log_softmax, (logits['scene'], logits['object']))
    return jnp.sum(jnp.exp(student_LV) * (student_LV - teacher_LV), -1)


def _fit(value_TN: np.ndarray, num_objects: int, absent: float) -> np.ndarray:
    value_TN = value_TN[:, :num_objects]
    missing = num_objects - value_TN.shape[1]
    return np.pad(value_TN, [(0, 0), (0, missing)], constant_values=absent)
