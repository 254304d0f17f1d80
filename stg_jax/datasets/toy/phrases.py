"""The small grammar that describes an event of the toy world in several ways."""

import numpy as np

NOUNS = {
    'ball': ('ball', 'circle'),
    'box': ('box', 'square'),
    'star': ('star',),
    'ring': ('ring', 'hoop'),
    'triangle': ('triangle',),
}

TEMPLATES = {
    'push': (
        '{subject} pushes {patient}',
        '{subject} is pushing {patient}',
        '{subject} pushes {patient} along',
        '{subject} shoves {patient} forward',
        '{patient} is pushed by {subject}',
        '{patient} is being pushed along by {subject}',
    ),
    'chase': (
        '{subject} chases {patient}',
        '{subject} is chasing {patient}',
        '{subject} runs after {patient}',
        '{subject} follows {patient}',
        '{patient} is chased by {subject}',
        '{patient} runs away and {subject} follows',
    ),
    'jump into': (
        '{subject} jumps into {patient}',
        '{subject} is jumping into {patient}',
        '{subject} hops into {patient}',
        '{subject} leaps into {patient}',
        '{subject} jumps and lands in {patient}',
        '{subject} lands inside {patient}',
    ),
    'pass behind': (
        '{subject} passes behind {patient}',
        '{subject} is passing behind {patient}',
        '{subject} moves behind {patient}',
        '{subject} goes behind {patient} and comes out again',
        '{subject} hides behind {patient} for a moment',
        '{patient} hides {subject} for a moment',
    ),
    'circle': (
        '{subject} circles {patient}',
        '{subject} is circling {patient}',
        '{subject} goes around {patient}',
        '{subject} moves in circles around {patient}',
        '{patient} is circled by {subject}',
        '{subject} travels around {patient}',
    ),
    'leave': (
        '{subject} leaves {patient}',
        '{subject} is leaving {patient}',
        '{subject} moves away from {patient}',
        '{subject} goes away from {patient}',
        '{patient} is left alone by {subject}',
        '{subject} leaves {patient} behind',
    ),
    'bump': (
        '{subject} bumps into {patient}',
        '{subject} hits {patient} and bounces back',
        '{subject} is bouncing off {patient}',
        '{subject} bounces off {patient}',
        '{patient} is hit by {subject}',
        '{subject} collides with {patient}',
    ),
    'meet': (
        '{subject} meets {patient}',
        '{subject} and {patient} meet',
        '{subject} and {patient} come together',
        '{subject} and {patient} are meeting',
        '{subject} and {patient} move towards each other',
        '{patient} meets {subject}',
    ),
    'hop': (
        '{subject} jumps up and down',
        '{subject} is jumping up and down',
        '{subject} keeps jumping',
        '{subject} hops up and down',
        '{subject} is hopping',
        '{subject} keeps hopping alone',
    ),
    'cross': (
        '{subject} moves across the picture',
        '{subject} is moving across the picture',
        '{subject} crosses the picture',
        '{subject} goes from one side to the other',
        '{subject} travels across the picture alone',
        '{subject} moves along alone',
    ),
}


def describe(
    event: str, actors: list[tuple[str, str]], rng: np.random.Generator
) -> tuple[str, ...]:
    """Write four to six different captions of an event.

    Args:
      event: a key of `TEMPLATES`.
      actors: (colour, shape) of the subject and, where the event has one, of the patient.
      rng: drawn from.
    """
    # Several captions a clip, as people write: a model must learn what they have in common.
    templates = TEMPLATES[event]
    chosen = rng.permutation(len(templates))[: rng.integers(4, 7)]
    roles = ('subject', 'patient')[: len(actors)]
    return tuple(
        templates[i].format(
            **{role: _noun_phrase(*actor, rng) for role, actor in zip(roles, actors, strict=True)}
        )
        for i in chosen
    )


def _noun_phrase(colour: str, shape: str, rng: np.random.Generator) -> str:
    nouns = NOUNS[shape]
    # The first noun is the usual one, as synonyms in real captions are not equally frequent.
    noun = nouns[0] if rng.random() < 0.6 else nouns[-1]
    return f'{rng.choice(("a", "the"))} {colour} {noun}'
