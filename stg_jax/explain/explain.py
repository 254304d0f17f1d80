"""Explain a caption of a clip: which frames and objects each word came from, by branch."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stg_jax.data.clip import Clip
from stg_jax.data.vocab import BOS, EOS, PAD
from stg_jax.decode.captioner import Captioner, stack_clips
from stg_jax.explain import forward as reading
from stg_jax.explain.attention import logits_and_attention
from stg_jax.explain.forward import Batch
from stg_jax.explain.occlusion import cell_saliency, cells_make_frames, frame_saliency
from stg_jax.explain.relevance import PATH, object_relevance
from stg_jax.model.graph import pairwise_cosine, pairwise_iou
from stg_jax.model.network import CaptioningModel
from stg_jax.run.build import build_model


@dataclasses.dataclass(frozen=True)
class Links:
    """The object graph before its softmaxes, which leave it nearly flat.

    Attributes:
      iou_TNN: overlap of two objects of a frame, in [0, 1]; symmetric, zero on the diagonal.
      cosine_TNN: [t, i, j] is the likeness of object i of frame t and j of frame t + 1, in
        [-1, 1]; one frame shorter.
    """

    iou_TNN: np.ndarray
    cosine_TNN: np.ndarray


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What two branches looked at for each of the L words of a caption, over T frames.

    Fields that belong to a branch which the run does not have are None.

    Attributes:
      words: the caption's words, without BOS and EOS.
      box_TN4: x1 y1 x2 y2 in [0, 1].
      score_TN: the detector's confidence.
      label_TN: the detector's class, -1 without one.
      object_mask_TN: True where an object exists.
      teacher: the branch that reads objects; `links` and `relevance_LTN` explain it.
      student: the branch that reads frames; `saliency_LT` explains it.
      log_p: by branch, (L,) log-probability of each word after those before it.
      attention: by branch, (L, T) cross-attention over frames, the mean of layers and heads; each
        row sums to 1. What is attended to are encoded frames, which know of their neighbours.
      links: strengths of the object graph's links.
      relevance_LTN: gradient times input of the word's log-probability at each object; positive
        where the object speaks for the word, zero where absent.
      saliency_LT: log-probability that the word loses when the frame is hidden.
      saliency_LTN: likewise when a cell of a frame is, where the objects are cells of a grid whose
        mean is what the student sees of the frame; else None.
      disagreement_L: KL(student || teacher) of the distributions over the next word, in nats.
    """

    words: tuple[str, ...]
    box_TN4: np.ndarray
    score_TN: np.ndarray
    label_TN: np.ndarray
    object_mask_TN: np.ndarray
    teacher: str | None
    student: str | None
    log_p: Mapping[str, np.ndarray]
    attention: Mapping[str, np.ndarray]
    links: Links | None
    relevance_LTN: np.ndarray | None
    saliency_LT: np.ndarray | None
    saliency_LTN: np.ndarray | None
    disagreement_L: np.ndarray | None


def object_links(batch: Mapping[str, np.ndarray]) -> Links:
    """Return the links of the one clip of a batch; zero where an object is absent."""
    mask_TN = batch['object_mask'][0]
    object_BTNC = batch['object']
    iou_TNN = np.array(pairwise_iou(batch['box'])[0])
    cosine_TNN = np.array(pairwise_cosine(object_BTNC[:, :-1], object_BTNC[:, 1:])[0])
    iou_TNN *= ~np.eye(mask_TN.shape[1], dtype=bool)
    iou_TNN *= mask_TN[:, :, None] & mask_TN[:, None, :]
    cosine_TNN *= mask_TN[:-1, :, None] & mask_TN[1:, None, :]
    return Links(iou_TNN, cosine_TNN)


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
    ids = word_ids(token_L)[: model.max_words]
    has_cells = cells_make_frames(run.manifest.extractor, batch)
    explain_fn = _explain_fn(model, has_cells)
    found = explain_fn(captioner.params, batch, padded(ids, model.max_words))
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
    for name in model.config.decoders:
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
