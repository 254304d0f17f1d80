"""What can happen in the toy world: one motion program per event.

A program draws the paths of its actors along +x around the origin; `place` turns and shifts them
into the picture. Lengths are fractions of the picture's side, time runs from 0 to 1.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

Programme = Callable[[np.ndarray, np.ndarray, np.random.Generator], list[np.ndarray]]

# Outlines are rarely round: centres at this fraction of the sum of the radii look like contact.
CONTACT = 0.93


@dataclasses.dataclass(frozen=True)
class Event:
    """How one or two actors move.

    Attributes:
      name: key of the captions' templates.
      programme: maps (time (F,), radii (actors,), rng) to one (F, 2) path per actor.
      num_actors: 1, or 2 for a subject and a patient.
      upright: True where gravity matters, so that the paths are mirrored but not turned.
      behind: True where the subject is drawn before the patient.
      stays: False where the actors need to be inside the picture in the first frame only.
      into: True where the patient has to be hollow or broad, and larger than the subject.
    """

    name: str
    programme: Programme
    num_actors: int = 2
    upright: bool = False
    behind: bool = False
    stays: bool = True
    into: bool = False


def _along_x(x: np.ndarray | float, y: np.ndarray | float, time: np.ndarray) -> np.ndarray:
    return np.stack(np.broadcast_arrays(x, y, time)[:2], axis=-1)


# Numbers are drawn anew in every clip, so that no event is recognized by one length or moment.
def _push(time, radii, rng):
    touch, start = CONTACT * radii.sum(), rng.uniform(0.3, 0.45)
    approach, distance = rng.uniform(0.15, 0.22), rng.uniform(0.22, 0.28)
    subject = np.interp(time, [0, start, 1], [-touch - approach, -touch, distance - touch])
    patient = np.interp(time, [0, start, 1], [0, 0, distance])
    return [_along_x(subject, 0, time), _along_x(patient, 0, time)]


def _chase(time, radii, rng):
    gap, length = radii.sum() + rng.uniform(0.03, 0.07), rng.uniform(0.4, 0.48)
    # A winding path, the same for both: a straight chase would look like two things that cross.
    height, turns, phase = rng.uniform(0.05, 0.1), rng.uniform(5, 9), rng.uniform(0, 2 * np.pi)
    ways = [length * time, length * time + gap]
    return [_along_x(way, height * np.sin(turns * way + phase), time) for way in ways]


def _jump_into(time, radii, rng):
    distance, height, start = rng.uniform(0.32, 0.42), rng.uniform(0.2, 0.3), rng.uniform(0.1, 0.3)
    # A parabola after a pause: before it starts to jump, the subject must be seen outside.
    flight = np.interp(time, [start, start + 0.45], [0, 1])
    subject = _along_x(distance * (flight - 1), -4 * height * flight * (1 - flight), time)
    return [subject, _along_x(0, 0, time)]


def _pass_behind(time, radii, rng):
    reach, offset = radii.sum() + rng.uniform(0.08, 0.14), rng.uniform(-0.03, 0.03)
    subject = _along_x(np.interp(time, [0.05, 0.95], [-reach, reach]), offset, time)
    return [subject, _along_x(0, 0, time)]


def _circle(time, radii, rng):
    # More than one turn, as less looks like passing by.
    angle = rng.uniform(0, 2 * np.pi) + 2 * np.pi * rng.uniform(1.1, 1.5) * time
    orbit = radii.sum() + rng.uniform(0.02, 0.06)
    return [orbit * np.stack([np.cos(angle), np.sin(angle)], axis=-1), _along_x(0, 0, time)]


def _leave(time, radii, rng):
    touch, start = CONTACT * radii.sum(), rng.uniform(0.2, 0.4)
    subject = np.interp(time, [0, start, 1], [touch, touch, touch + rng.uniform(0.6, 0.8)])
    return [_along_x(subject, 0, time), _along_x(0, 0, time)]


def _bump(time, radii, rng):
    touch, hit, run = CONTACT * radii.sum(), rng.uniform(0.35, 0.5), rng.uniform(0.25, 0.32)
    subject = np.interp(time, [0, hit, 1], [-touch - run, -touch, -touch - 0.8 * run])
    # The patient gives way a little: without it, bumping looks like meeting a wall.
    patient = np.interp(time, [0, hit, hit + 0.1], [0, 0, 0.03])
    return [_along_x(subject, 0, time), _along_x(patient, 0, time)]


def _meet(time, radii, rng):
    touch, end, run = CONTACT * radii.sum(), rng.uniform(0.6, 0.75), rng.uniform(0.18, 0.22)
    way = np.interp(time, [0, end], [touch / 2 + run, touch / 2])
    return [_along_x(-way, 0, time), _along_x(way, 0, time)]


def _hop(time, radii, rng):
    hops, height = rng.integers(2, 5), rng.uniform(0.15, 0.25)
    return [_along_x(0, -height * np.abs(np.sin(np.pi * hops * time)), time)]


def _cross(time, radii, rng):
    return [_along_x(rng.uniform(0.6, 0.7) * time, 0, time)]


EVENTS = (
    Event('push', _push),
    Event('chase', _chase),
    Event('jump into', _jump_into, upright=True, into=True),
    Event('pass behind', _pass_behind, behind=True),
    Event('circle', _circle),
    Event('leave', _leave, stays=False),
    Event('bump', _bump),
    Event('meet', _meet),
    Event('hop', _hop, num_actors=1, upright=True),
    Event('cross', _cross, num_actors=1),
)


def place(
    event: Event, radii: np.ndarray, num_frames: int, rng: np.random.Generator, margin: float = 0.02
) -> np.ndarray:
    """Place the paths of the actors somewhere in the picture, (actors, F, 2)."""
    time = np.linspace(0, 1, num_frames)
    paths = np.stack(event.programme(time, radii, rng))
    while True:
        angle = 0 if event.upright else rng.uniform(0, 2 * np.pi)
        turn = np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])
        turned = paths @ turn * (rng.choice([-1, 1]), 1)
        # An actor that leaves may leave the picture, too.
        seen = turned if event.stays else turned[:, :1]
        low = (seen - radii[:, None, None]).min((0, 1))
        high = (seen + radii[:, None, None]).max((0, 1))
        # Drawn again if the paths do not fit at this angle: long ones fit along the diagonal.
        room = 1 - 2 * margin - (high - low)
        if (room >= 0).all():
            return turned - low + margin + rng.uniform(0, room)
