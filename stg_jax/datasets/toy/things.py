"""The things of the toy world: colours, shapes, and how a thing looks."""

import dataclasses

import numpy as np

COLOURS = {
    'red': (214, 40, 40),
    'yellow': (236, 196, 20),
    'green': (36, 160, 60),
    'blue': (35, 80, 210),
    'purple': (165, 45, 165),
}


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
