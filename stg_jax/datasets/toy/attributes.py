"""Score captions of the toy world by the grammar that wrote them: who does what to whom."""

import collections
import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stg_jax.datasets.toy.phrases import NOUNS, TEMPLATES
from stg_jax.datasets.toy.scenes import COLOURS
from stg_jax.errors import UserError

Thing = tuple[str, str]  # color and shape

# Events in which the two actors do the same, so that either of them may be named first.
SYMMETRIC = frozenset({'meet'})

SCORES = {  # fields of `Judgement`, and what their summary is called
    'event': 'event right',
    'subject': 'subject right',
    'object': 'object right',
    'color': 'colors right',
    'shape': 'shapes right',
    'things': 'things right',
    'all_things': 'all things right',
    'everything': 'everything right',
}

_SHAPE_OF = {noun: shape for shape, nouns in NOUNS.items() for noun in nouns}
_THING = re.compile(rf'\b(?:a|the) ({"|".join(COLOURS)}) ({"|".join(_SHAPE_OF)})\b')
_SLOT = re.compile('{(subject|patient)}')
# The text of a template with its slots blanked, to the event and the roles in order of mention.
# Reversed: of two templates that differ only in the order of roles, the first one counts.
_MEANING_OF = {
    _SLOT.sub('{}', template): (event, tuple(_SLOT.findall(template)))
    for event, templates in TEMPLATES.items()
    for template in reversed(templates)
}


@dataclasses.dataclass(frozen=True)
class Meaning:
    """What a caption states.

    Attributes:
      event: a key of `TEMPLATES`, None where the words around the things are no template.
      things: color and shape of all things, in the order in which they are named.
      roles: the things by role, 'subject' and 'patient'; empty where the event is unknown.
    """

    event: str | None
    things: tuple[Thing, ...]
    roles: Mapping[str, Thing]


@dataclasses.dataclass(frozen=True)
class Judgement:
    """How much of a caption agrees with what happened.

    Attributes:
      event: the event is named.
      subject: the subject is named in its role.
      object: the object is named in its role; None where the event has none.
      color: number of colors that are named as often as they occur.
      shape: number of shapes, likewise.
      things: number of things named with their own color and shape.
      num_things: number of things that take part.
      all_things: these things are named and no others.
      everything: event, things and roles are right.
    """

    event: bool
    subject: bool
    object: bool | None
    color: int
    shape: int
    things: int
    num_things: int
    all_things: bool
    everything: bool


def parse(caption: str) -> Meaning:
    """Read a caption; any text has a meaning, if only one without event and things."""
    things = tuple((color, _SHAPE_OF[noun]) for color, noun in _THING.findall(caption))
    event, roles = _MEANING_OF.get(_THING.sub('{}', caption), (None, ()))
    return Meaning(event, things, dict(zip(roles, things, strict=True)) if event else {})


def judge(caption: str, truth: Meaning) -> Judgement:
    """Compare a caption with the meaning of a reference."""
    return compare(parse(caption), truth)


def compare(found: Meaning, truth: Meaning) -> Judgement:
    """Compare a meaning with that of a reference."""
    all_things = sorted(found.things) == sorted(truth.things)
    is_role = {role: _in_role(found, role, truth) for role in truth.roles}
    return Judgement(
        event=found.event == truth.event,
        subject=is_role['subject'],
        object=is_role.get('patient'),
        color=_num_shared([c for c, _ in found.things], [c for c, _ in truth.things]),
        shape=_num_shared([s for _, s in found.things], [s for _, s in truth.things]),
        things=_num_shared(found.things, truth.things),
        num_things=len(truth.things),
        all_things=all_things,
        everything=found.event == truth.event and all_things and all(is_role.values()),
    )


def score_attributes(
    predictions: Mapping[str, str], references: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Score captions of toy clips by their meaning.

    Args:
      predictions: clip id to caption.
      references: clip id to captions of the toy grammar, all of one meaning.

    Returns:
      'attributes': percentages by name, see `SCORES`; 'per_clip': clip id to `Judgement` as a dict.

    Raises:
      UserError: a reference is not of the toy grammar, or the clips differ.
    """
    if predictions.keys() != references.keys() or not references:
        raise UserError('captions and references are of different clips: evaluate the split again')
    judgements = {
        clip: judge(caption, _truth(clip, references[clip]))
        for clip, caption in predictions.items()
    }
    return {
        'attributes': summarize(list(judgements.values())),
        'per_clip': {clip: dataclasses.asdict(each) for clip, each in judgements.items()},
    }


def summarize(judgements: Sequence[Judgement]) -> dict[str, float]:
    """Compute percentages by name: of clips, or of things for 'color', 'shape' and 'things'."""
    num_things = sum(each.num_things for each in judgements)
    scores = {}
    for field, name in SCORES.items():
        values = [getattr(each, field) for each in judgements]
        if field in ('color', 'shape', 'things'):
            scores[name] = 100 * sum(values) / num_things
        else:
            known = [value for value in values if value is not None]
            scores[name] = 100 * float(np.mean(known)) if known else 0.0
    return scores


def _truth(clip: str, references: Sequence[str]) -> Meaning:
    meanings = list(map(parse, references))
    if not meanings or any(each.event is None for each in meanings):
        raise UserError(f'the references of clip {clip} are not captions of the toy world')
    return meanings[0]


def _in_role(found: Meaning, role: str, truth: Meaning) -> bool:
    thing = truth.roles[role]
    if truth.event in SYMMETRIC and found.event == truth.event:
        return thing in found.things
    return found.roles.get(role) == thing


def _num_shared(found: Sequence[Any], truth: Sequence[Any]) -> int:
    return (collections.Counter(found) & collections.Counter(truth)).total()
