"""Whether the most relevant object of a noun is the thing that the noun names, in the toy world."""

import dataclasses

import numpy as np

from stg_jax.data.clip import Clip
from stg_jax.data.toy.captions import NOUNS
from stg_jax.data.toy.scenes import Scene, compose
from stg_jax.explain.explanation import Explanation

OVERLAP = 0.5  # IoU from which a box is that of a thing


@dataclasses.dataclass(frozen=True)
class Pointing:
    """Of one noun of a caption.

    Attributes:
      noun: the most relevant object of the noun is the thing.
      phrase: so is that of the noun and its colour together.
      chance: share of all objects that are the thing.
    """

    noun: bool
    phrase: bool
    chance: float


def toy_scene(clip: Clip, seed: int) -> Scene:
    """Return the scene that a clip of the toy world shows."""
    split = clip.id.rstrip('0123456789')
    return compose(split, int(clip.id[len(split) :]), seed)


def point(explanation: Explanation, clip: Clip, scene: Scene) -> list[Pointing]:
    """Judge the nouns of a caption that name an actor of the scene; none without two actors.

    A lone actor is the only thing in its picture, and says nothing.
    """
    found, words = [], explanation.words
    if scene.event.num_actors < 2:
        return []
    for actor, thing in enumerate(scene.things[:2]):
        for place in range(len(words) - 1):
            if words[place] == thing.colour and words[place + 1] in NOUNS[thing.shape]:
                hit_TN = _is_thing(explanation, clip.true_box[:, actor])
                found.append(_judge(explanation, place, hit_TN))
    return found


def summarise(pointings: list[Pointing]) -> dict[str, float | int]:
    """Return the share of nouns that point right, and that of random pointing."""
    return {
        'nouns': len(pointings),
        'noun': float(np.mean([each.noun for each in pointings])),
        'phrase': float(np.mean([each.phrase for each in pointings])),
        'chance': float(np.mean([each.chance for each in pointings])),
    }


def _judge(explanation: Explanation, place: int, hit_TN: np.ndarray) -> Pointing:
    mask_TN = explanation.object_mask_TN
    colour_TN, noun_TN = explanation.relevance_LTN[place : place + 2]

    def hits(relevance_TN: np.ndarray) -> bool:
        return bool(hit_TN.flat[np.where(mask_TN, relevance_TN, -np.inf).argmax()])

    chance = hit_TN.sum() / max(mask_TN.sum(), 1)
    return Pointing(hits(noun_TN), hits(colour_TN + noun_TN), float(chance))


def _is_thing(explanation: Explanation, true_box_T4: np.ndarray) -> np.ndarray:
    """Return (T, N), True at objects whose box overlaps the thing's."""
    box_TN4, true_box_T14 = explanation.box_TN4, true_box_T4[:, None]
    low_TN2 = np.maximum(box_TN4[..., :2], true_box_T14[..., :2])
    high_TN2 = np.minimum(box_TN4[..., 2:], true_box_T14[..., 2:])
    both_TN = np.maximum(high_TN2 - low_TN2, 0).prod(-1)
    either_TN = _area(box_TN4) + _area(true_box_T14) - both_TN
    return explanation.object_mask_TN & (both_TN >= OVERLAP * np.maximum(either_TN, 1e-9))


def _area(box: np.ndarray) -> np.ndarray:
    return np.maximum(box[..., 2:] - box[..., :2], 0).prod(-1)
