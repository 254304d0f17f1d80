"""Compose a scene: who acts, what happens, and which distractors rest or drift by."""

import dataclasses
import zlib
from collections.abc import Sequence

import numpy as np

from stg_jax.datasets.toy.events import EVENTS, Event, place
from stg_jax.datasets.toy.phrases import describe

COLOURS = {
    'red': (214, 40, 40),
    'yellow': (236, 196, 20),
    'green': (36, 160, 60),
    'blue': (35, 80, 210),
    'purple': (165, 45, 165),
}
SPLITS = ('train', 'val', 'test')
MAX_THINGS = 6
NUM_DISTRACTORS = (0.3, 0.25, 0.2, 0.15, 0.1)  # probability of 0, 1, ... beside two actors
Kind = tuple[str, str]


def _circle(radius: float, num_points: int = 36) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, num_points, endpoint=False)
    return radius * np.stack([np.sin(angle), -np.cos(angle)], axis=-1)


def _star() -> np.ndarray:
    return _circle(1, 10) * np.where(np.arange(10) % 2, 0.45, 1)[:, None]


# Closed outlines around the origin, inside the unit circle; a second outline is a hole.
SHAPES = {
    'ball': (_circle(0.95),),
    'box': (_circle(1.15, 4) @ np.array([(1, 1), (-1, 1)]) / np.sqrt(2),),
    'star': (_star(),),
    'ring': (_circle(1), _circle(0.62)),
    'triangle': (_circle(1, 3),),
}

# Color and shape vary independently: a model cannot infer one from the other.
KINDS = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)


@dataclasses.dataclass(frozen=True)
class Thing:
    """One thing and its path through a clip.

    Lengths are fractions of the picture's side; x goes right and y goes down.

    Attributes:
      colour: a key of `COLOURS`.
      shape: a key of `SHAPES`.
      radius: half the size.
      tilt: constant rotation in radians.
      path: (F, 2) centre in every frame; may leave the picture.
    """

    colour: str
    shape: str
    radius: float
    tilt: float
    path: np.ndarray

    def outlines(self) -> list[np.ndarray]:
        """Compute the tilted outlines around the thing's centre, each (points, 2)."""
        cos, sin = np.cos(self.tilt), np.sin(self.tilt)
        turn = self.radius * np.array([(cos, sin), (-sin, cos)])
        return [outline @ turn for outline in SHAPES[self.shape]]

    def boxes(self) -> np.ndarray:
        """Compute the visible bounds x1 y1 x2 y2 per frame, (F, 4); zero while off-screen."""
        outline = self.outlines()[0]
        box = np.concatenate([self.path + outline.min(0), self.path + outline.max(0)], axis=-1)
        box = box.clip(0, 1)
        # Clipping leaves a thing outside of the picture without an area.
        visible = (box[:, 2:] > box[:, :2]).all(axis=-1, keepdims=True)
        return np.where(visible, box, 0).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Difficulty:
    """How hard the scenes are to describe.

    Attributes:
      distractors: things added to those drawn, up to `MAX_THINGS` in all.
      captions: the most captions of a clip.
      held_out: what 'val' and 'test' show that 'train' never does: 'triples', combinations of an
        event and its actors, or 'kinds', colored shapes.
    """

    distractors: int = 0
    captions: int = 6
    held_out: str = 'triples'


USUAL = Difficulty()


@dataclasses.dataclass(frozen=True)
class Scene:
    """A clip before it is drawn.

    Attributes:
      event: what happens.
      things: subject, patient where the event has one, then distractors.
      captions: what people say about it.
    """

    event: Event
    things: tuple[Thing, ...]
    captions: tuple[str, ...]

    @property
    def draw_order(self) -> tuple[Thing, ...]:
        """The things from the back to the front; distractors never touch an actor."""
        actors = self.things[: self.event.num_actors]
        rest = self.things[self.event.num_actors :]
        return rest + (actors if self.event.behind else actors[::-1])


def compose(split: str, index: int, seed: int, difficulty: Difficulty = USUAL) -> Scene:
    """Compose scene `index` of a split; it depends only on the arguments."""
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    event = EVENTS[index % len(EVENTS)]
    kinds = _choose_actors(event, split, rng, difficulty.held_out)
    things = _actors(event, kinds, num_frames=int(rng.integers(30, 41)), rng=rng)
    captions = describe(event.name, kinds, rng)[: difficulty.captions]
    if event.num_actors > 1:
        count = int(rng.choice(5, p=NUM_DISTRACTORS)) + difficulty.distractors
        _add_distractors(things, min(count, MAX_THINGS - event.num_actors), rng)
    return Scene(event, tuple(things), captions)


def split_of(event: str, kinds: list[Kind], held_out: str = 'triples') -> str:
    """Find the only split in which these actors do this.

    Six of eight combinations are in 'train'. With `held_out` 'kinds', six of eight colored shapes
    are; where actors are of several splits, the rarer one counts.
    """
    if held_out == 'triples':
        return _split_by_name([event, *(word for kind in kinds for word in kind)])
    splits = {_split_by_name(kind) for kind in kinds}
    return next(split for split in ('test', 'val', 'train') if split in splits)


def _split_by_name(words: Sequence[str]) -> str:
    # A checksum, not a list of exceptions: new events and things fall into splits by themselves.
    bucket = zlib.crc32(' '.join(words).encode()) % 8
    return {0: 'val', 1: 'test'}.get(bucket, 'train')


def _choose_actors(event: Event, split: str, rng: np.random.Generator, held_out: str) -> list[Kind]:
    """Draw kinds of different colours until the combination belongs to the split."""
    # Drawing again keeps the kinds of each split uniform among those that belong to it.
    while True:
        kinds = [KINDS[i] for i in rng.choice(len(KINDS), event.num_actors, replace=False)]
        fits = not event.into or kinds[1][1] in ('ring', 'box')
        colours = {colour for colour, _ in kinds}
        if fits and len(colours) == len(kinds) and split_of(event.name, kinds, held_out) == split:
            return kinds


def _actors(
    event: Event, kinds: list[Kind], num_frames: int, rng: np.random.Generator
) -> list[Thing]:
    radii = rng.uniform(0.085, 0.125, event.num_actors)
    if event.into:
        radii = np.array([rng.uniform(0.075, 0.085), rng.uniform(0.145, 0.165)])
    paths = place(event, radii, num_frames, rng)
    return [
        Thing(colour, shape, float(radius), _tilt(rng), path)
        for (colour, shape), radius, path in zip(kinds, radii, paths, strict=True)
    ]


def _add_distractors(things: list[Thing], count: int, rng: np.random.Generator) -> None:
    """Append up to `count` things of other kinds, each keeping clear of all others."""
    num_frames = len(things[0].path)
    taken = {(thing.colour, thing.shape) for thing in things}
    others = [kind for kind in KINDS if kind not in taken]
    for i in rng.choice(len(others), count, replace=False):
        colour, shape = others[i]
        # Full pictures have no room: after some tries the distractor is left out.
        for _ in range(20):
            path = _stand(num_frames, rng) if rng.random() < 0.5 else _drift(num_frames, rng)
            thing = Thing(colour, shape, rng.uniform(0.08, 0.12), _tilt(rng), path)
            if all(_clear(thing, other) for other in things):
                things.append(thing)
                break


def _tilt(rng: np.random.Generator) -> float:
    return float(rng.uniform(-0.2, 0.2))


def _stand(num_frames: int, rng: np.random.Generator) -> np.ndarray:
    return np.tile(rng.uniform(0.12, 0.88, 2), (num_frames, 1))


def _drift(num_frames: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a straight path through the picture that may begin or end outside."""
    angle, speed, middle = (
        rng.uniform(0, 2 * np.pi),
        rng.uniform(0.4, 1.4),
        rng.uniform(0.1, 0.9, 2),
    )
    time = np.linspace(-0.5, 0.5, num_frames)[:, None]
    return middle + speed * time * np.array([np.cos(angle), np.sin(angle)])


def _clear(one: Thing, other: Thing) -> bool:
    distance = np.linalg.norm(one.path - other.path, axis=-1)
    return bool(distance.min() > one.radius + other.radius + 0.05)
