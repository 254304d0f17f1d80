"""The pointing game (Zhang et al., 2016) on the toy world: is a noun's best object a match?"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from stg_jax.data.clip import Clip
from stg_jax.datasets.toy.phrases import NOUNS
from stg_jax.datasets.toy.scenes import Difficulty, Scene, compose
from stg_jax.explain.explain import Explanation

OVERLAP = 0.5  # IoU from which a detected box counts as a thing of the scene


@dataclasses.dataclass(frozen=True)
class Pointing:
    """Judgement of one noun, which names every thing of its shape but refers to one of them.

    Attributes:
      named: the noun's most relevant object is a thing of the named shape.
      meant: it is the thing that the caption refers to.
      phrase: the most relevant object of colour and noun together is that thing.
      named_chance: share of all objects that are things of the named shape.
      meant_chance: share of all objects that are the thing referred to.
    """

    named: bool
    meant: bool
    phrase: bool
    named_chance: float
    meant_chance: float


def toy_scene(clip: Clip, sources: Mapping[str, Any]) -> Scene:
    """Compose the scene of a toy clip again, from its id and the sources of the data."""
    # Ids are the split followed by a number, such as test12.
    split = clip.id.rstrip('0123456789')
    difficulty = Difficulty(**sources.get('difficulty', {}))
    return compose(split, int(clip.id[len(split) :]), sources['seed'], difficulty)


def point(explanation: Explanation, clip: Clip, scene: Scene) -> list[Pointing]:
    """Judge the nouns of a caption that name an actor of the scene.

    Scenes with one actor are skipped: with a single thing in the picture any object is right.
    """
    found, words = [], explanation.words
    if scene.event.num_actors < 2:
        return []
    # Objects come from a detector on the pixels, things from the renderer: they match by overlap.
    is_thing = [_is_thing(explanation, clip.true_box[:, i]) for i in range(len(scene.things))]
    for actor, meant in enumerate(scene.things[:2]):
        alike = [is_thing[i] for i, thing in enumerate(scene.things) if thing.shape == meant.shape]
        for place in range(len(words) - 1):
            # Only colour and noun together refer to one thing: two actors may share a shape.
            if words[place] == meant.colour and words[place + 1] in NOUNS[meant.shape]:
                found.append(_judge(explanation, place, np.any(alike, axis=0), is_thing[actor]))
    return found


def summarise(pointings: list[Pointing]) -> dict[str, float | int]:
    """Count the nouns and average every judgement and chance level over them."""
    fields = [field.name for field in dataclasses.fields(Pointing)]
    means = {name: float(np.mean([getattr(each, name) for each in pointings])) for name in fields}
    return {'nouns': len(pointings)} | means


def _judge(
    explanation: Explanation, place: int, named_TN: np.ndarray, meant_TN: np.ndarray
) -> Pointing:
    """Judge the noun at `place + 1`, whose colour is the word before it."""
    mask_TN = explanation.object_mask_TN
    assert explanation.relevance_LTN is not None  # only explanations of a teacher are judged
    colour_TN, noun_TN = explanation.relevance_LTN[place : place + 2]

    def best(relevance_TN: np.ndarray) -> int:
        return int(np.where(mask_TN, relevance_TN, -np.inf).argmax())

    return Pointing(
        named=bool(named_TN.flat[best(noun_TN)]),
        meant=bool(meant_TN.flat[best(noun_TN)]),
        phrase=bool(meant_TN.flat[best(colour_TN + noun_TN)]),
        named_chance=named_TN.sum() / max(mask_TN.sum(), 1),
        meant_chance=meant_TN.sum() / max(mask_TN.sum(), 1),
    )


def _is_thing(explanation: Explanation, true_box_T4: np.ndarray) -> np.ndarray:
    """Mark the objects whose box overlaps that of a thing, (T, N)."""
    box_TN4, true_box_T14 = explanation.box_TN4, true_box_T4[:, None]
    low_TN2 = np.maximum(box_TN4[..., :2], true_box_T14[..., :2])
    high_TN2 = np.minimum(box_TN4[..., 2:], true_box_T14[..., 2:])
    both_TN = np.maximum(high_TN2 - low_TN2, 0).prod(-1)
    either_TN = _area(box_TN4) + _area(true_box_T14) - both_TN
    return explanation.object_mask_TN & (both_TN >= OVERLAP * np.maximum(either_TN, 1e-9))


def _area(box: np.ndarray) -> np.ndarray:
    return np.maximum(box[..., 2:] - box[..., :2], 0).prod(-1)
