"""Explain a caption of a clip: which frames, objects and cells each word came from."""

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
from stg_jax.explain import forward
from stg_jax.explain.attention import logits_and_attention
from stg_jax.explain.forward import DeviceBatch, PyTree
from stg_jax.explain.occlusion import cell_saliency, cells_make_frames, frame_saliency
from stg_jax.explain.relevance import PATH, cell_relevance, object_relevance
from stg_jax.model.graph import pairwise_cosine, pairwise_iou
from stg_jax.model.network import CaptioningModel
from stg_jax.run.build import build_model


@dataclasses.dataclass(frozen=True)
class Links:
    """Edges of the object graph before the softmaxes, which make them nearly uniform.

    Attributes:
      iou_TNN: overlap of two objects in a frame, in [0, 1]; symmetric, zero on the diagonal.
      cosine_TNN: [t, i, j] is the similarity of object i in frame t and object j in frame t + 1,
        in [-1, 1]; one frame shorter.
    """

    iou_TNN: np.ndarray
    cosine_TNN: np.ndarray


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What each branch relied on for each of the L words of a caption, over T frames.

    Fields of a branch that the run does not have are None.

    Attributes:
      words: of the caption, without BOS and EOS.
      box_TN4: x1 y1 x2 y2 in [0, 1].
      score_TN: the detector's confidence.
      label_TN: the detector's class, -1 if unknown.
      object_mask_TN: True for real objects, False for padding.
      teacher: the branch that reads objects, explained by `links` and `relevance_LTN`.
      student: the branch that reads frames, explained by `saliency_LT` and `relevance_LTG`.
      log_p: by branch, (L,) log-probability of each word given the words before it.
      attention: by branch, (L, T) cross-attention over frames, averaged over layers and heads;
        rows sum to 1. Encoded frames already contain information from their neighbours.
      links: edges of the object graph.
      relevance_LTN: integrated gradients of the word's log-probability; positive where the object
        speaks for the word, zero for padding.
      relevance_LTG: the same of the word's logit for the cells of the grid that the student reads,
        row by row; None if it reads none.
      saliency_LT: log-probability that the word loses when the frame is hidden.
      saliency_LTN: the same for each object, if objects are cells of a grid whose mean is all
        that the student knows of the frame; otherwise None.
      disagreement_L: KL(student || teacher) between the next-word distributions, in nats.
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
    relevance_LTG: np.ndarray | None
    saliency_LT: np.ndarray | None
    saliency_LTN: np.ndarray | None
    disagreement_L: np.ndarray | None


def explain_caption(
    captioner: Captioner, clip: Clip, token_L: Sequence[int] | np.ndarray
) -> Explanation:
    """Explain one caption of a clip, whichever branch or person it came from.

    Args:
      captioner: the run. All of its branches are explained, not only the one that decodes.
      clip: features of the clip.
      token_L: ids of the words, with or without BOS, EOS and PAD.

    Raises:
      UserError: the clip's features do not fit the run.
    """
    run = captioner.run
    model = build_model(run.config, run.manifest, run.vocab)
    features = stack_clips([clip], run.config.data.objects)
    captioner.inputs(features)  # refuses features that do not fit
    batch = forward.as_batch(features)
    # Longer captions are cut, as references are in training.
    ids = word_ids(token_L)[: model.max_words]
    # A student that also reads a grid would still see the hidden cell there.
    has_cells = not model.config.reads_grid and cells_make_frames(run.manifest.extractor, batch)
    # Linen modules are dataclasses that hash by their fields.
    explain_fn = _explain_fn(model, has_cells)  # pyright: ignore[reportArgumentType]
    found = explain_fn(captioner.params, batch, pad_words(ids, model.max_words))
    per_word = jax.tree.map(lambda x_L: np.asarray(x_L)[: len(ids)], found)
    num_objects = features['object_mask'].shape[2]
    teacher = forward.teacher_of(model)
    return Explanation(
        words=tuple(run.vocab.words[i] for i in ids),
        box_TN4=features['box'][0],
        # The network reads a fixed N: clips with more objects lose the least certain ones.
        score_TN=_fit_objects(clip.score, num_objects, 0),
        label_TN=_fit_objects(clip.label, num_objects, -1),
        object_mask_TN=features['object_mask'][0],
        teacher=teacher,
        student=forward.student_of(model),
        links=object_links(batch) if teacher else None,
        **per_word,
    )


def object_links(batch: DeviceBatch) -> Links:
    """Compute the graph's edges for the one clip of a batch; zero for padding."""
    mask_TN = np.asarray(batch['object_mask'][0])
    object_BTNC = batch['object']
    iou_TNN = np.array(pairwise_iou(batch['box'])[0])
    cosine_TNN = np.array(pairwise_cosine(object_BTNC[:, :-1], object_BTNC[:, 1:])[0])
    iou_TNN *= ~np.eye(mask_TN.shape[1], dtype=bool)
    iou_TNN *= mask_TN[:, :, None] & mask_TN[:, None, :]
    cosine_TNN *= mask_TN[:-1, :, None] & mask_TN[1:, None, :]
    return Links(iou_TNN, cosine_TNN)


def word_ids(token_L: Sequence[int] | np.ndarray) -> list[int]:
    """Drop BOS, PAD and everything from the first EOS on."""
    tokens = [int(token) for token in token_L]
    end = tokens.index(EOS) if EOS in tokens else len(tokens)
    return [token for token in tokens[:end] if token not in (PAD, BOS)]


def pad_words(ids: Sequence[int], max_words: int) -> np.ndarray:
    """Frame word ids with BOS and EOS and pad them to one length, so that JAX compiles once."""
    token_L = np.full(max_words + 2, PAD, np.int32)
    token_L[: len(ids) + 2] = [BOS, *ids, EOS]
    return token_L


# Compiling takes far longer than explaining, and a report explains many captions of one run.
@functools.lru_cache(maxsize=4)
def _explain_fn(
    model: CaptioningModel, has_cells: bool
) -> Callable[[PyTree, DeviceBatch, np.ndarray], dict[str, Any]]:
    """Compile the fields of `Explanation` that have one row for each word."""
    return jax.jit(functools.partial(_explain_words, model, has_cells))


def _explain_words(model, has_cells, params, batch, token_L):
    logits, attention = {}, {}
    for name in model.config.decoders:
        logits_BKLV, weight_BKLT = logits_and_attention(
            model, params, batch, token_L[None, None, :-1], name
        )
        logits[name], attention[name] = logits_BKLV[0, 0], weight_BKLT[0, 0]
    clip = (model, params, batch, token_L)
    teacher, student = forward.teacher_of(model), forward.student_of(model)
    return {
        'log_p': {name: forward.word_log_p(x_LV, token_L[1:]) for name, x_LV in logits.items()},
        'attention': attention,
        'relevance_LTN': object_relevance(*clip, teacher, PATH) if teacher else None,
        'relevance_LTG': (
            cell_relevance(*clip, student, PATH) if student and model.config.reads_grid else None
        ),
        'saliency_LT': frame_saliency(*clip, student) if student else None,
        'saliency_LTN': cell_saliency(*clip, student) if student and has_cells else None,
        'disagreement_L': _divergence(logits) if len(logits) > 1 else None,
    }


def _divergence(logits: dict[str, jax.Array]) -> jax.Array:
    """Compute KL(scene || object) between the next-word distributions, (L,)."""
    student_LV, teacher_LV = map(jax.nn.log_softmax, (logits['scene'], logits['object']))
    return jnp.sum(jnp.exp(student_LV) * (student_LV - teacher_LV), -1)


def _fit_objects(value_TN: np.ndarray, num_objects: int, padding: float) -> np.ndarray:
    """Pad or cut the axis of objects to the run's N."""
    value_TN = value_TN[:, :num_objects]
    missing = num_objects - value_TN.shape[1]
    return np.pad(value_TN, [(0, 0), (0, missing)], constant_values=padding)
