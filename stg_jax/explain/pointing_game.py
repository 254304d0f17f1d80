"""The pointing game (Zhang et al., 2016) on the toy world.

Does the most relevant object, or the most relevant cell of the grid, show what the word names?
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from stg_jax.data.clip import Clip
from stg_jax.datasets.toy.phrases import NOUNS
from stg_jax.datasets.toy.scenes import Difficulty, Scene, Thing, compose
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


@dataclasses.dataclass(frozen=True)
class CellPointing:
    """Judgement of a colour and the noun after it, by the cells of the grid.

    A cell hits a thing if the cell's center is inside of the thing's true box in that frame.

    Attributes:
      colour: the colour's most relevant cell hits a thing of this colour.
      shape: the noun's most relevant cell hits a thing of the named shape.
      phrase: the most relevant cell of both words together hits the thing that the caption means.
      colour_chance: share of all cells that hit a thing of this colour.
      shape_chance: share of all cells that hit a thing of the named shape.
      phrase_chance: share of all cells that hit the thing that the caption means.
    """

    colour: bool
    shape: bool
    phrase: bool
    colour_chance: float
    shape_chance: float
    phrase_chance: float


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
    if scene.event.num_actors < 2:
        return []
    # Objects come from a detector on the pixels, things from the renderer: they match by overlap.
    is_thing = [_is_thing(explanation, clip.true_box[:, i]) for i in range(len(scene.things))]
    found = []
    for actor, place in _mentions(explanation.words, scene):
        named = _alike(scene, is_thing, 'shape', scene.things[actor])
        found.append(_judge(explanation, place, named, is_thing[actor]))
    return found


def point_cells(explanation: Explanation, clip: Clip, scene: Scene) -> list[CellPointing]:
    """Judge the colours and nouns of a caption that name an actor of the scene.

    Scenes with one actor count: most of their cells show the plain ground.
    """
    relevance_LTG = explanation.relevance_LTG
    assert relevance_LTG is not None  # only explanations of a grid are judged
    hit = [_hits(clip.true_box[:, i], relevance_LTG.shape[2]) for i in range(len(scene.things))]
    found = []
    for actor, place in _mentions(explanation.words, scene):
        thing = scene.things[actor]
        colour_TG = _alike(scene, hit, 'colour', thing)
        shape_TG = _alike(scene, hit, 'shape', thing)
        colour, noun = (int(relevance_TG.argmax()) for relevance_TG in relevance_LTG[place:][:2])
        both = int(relevance_LTG[place : place + 2].sum(0).argmax())
        judged = CellPointing(
            colour=bool(colour_TG.flat[colour]),
            shape=bool(shape_TG.flat[noun]),
            phrase=bool(hit[actor].flat[both]),
            colour_chance=float(colour_TG.mean()),
            shape_chance=float(shape_TG.mean()),
            phrase_chance=float(hit[actor].mean()),
        )
        found.append(judged)
    return found


def summarise(
    pointings: Sequence[Pointing] | Sequence[CellPointing],
) -> dict[str, float | int]:
    """Count the nouns and average every judgement and chance level over them."""
    fields = [field.name for field in dataclasses.fields(pointings[0])]
    means = {name: float(np.mean([getattr(each, name) for each in pointings])) for name in fields}
    return {'nouns': len(pointings)} | means


def _mentions(words: Sequence[str], scene: Scene) -> Iterator[tuple[int, int]]:
    """Yield actors and where their colour is in the caption; the noun follows it."""
    for actor, thing in enumerate(scene.things[: scene.event.num_actors]):
        for place in range(len(words) - 1):
            # Only colour and noun together refer to one thing: two actors may share a shape.
            if words[place] == thing.colour and words[place + 1] in NOUNS[thing.shape]:
                yield actor, place


def _alike(
    scene: Scene, marked: Sequence[np.ndarray], kind: Literal['colour', 'shape'], thing: Thing
) -> np.ndarray:
    """Join the marks of all things that have the colour or the shape of `thing`."""
    is_alike = [getattr(other, kind) == getattr(thing, kind) for other in scene.things]
    return np.any([mark for mark, alike in zip(marked, is_alike, strict=True) if alike], axis=0)


def _hits(true_box_T4: np.ndarray, num_cells: int) -> np.ndarray:
    """Mark the cells of a square grid whose center is inside of a thing's box, (T, G)."""
    side = math.isqrt(num_cells)
    y_G, x_G = (np.indices((side, side)).reshape(2, -1) + 0.5) / side
    x1_T1, y1_T1, x2_T1, y2_T1 = np.split(true_box_T4, 4, axis=-1)
    return (x1_T1 < x_G) & (x_G < x2_T1) & (y1_T1 < y_G) & (y_G < y2_T1)


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
