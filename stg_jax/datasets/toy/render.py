"""Draw scenes of the toy world and write them as video files."""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import av
import cv2
import numpy as np

from stg_jax.datasets.toy.scenes import (
    COLOURS,
    MAX_THINGS,
    SPLITS,
    USUAL,
    Difficulty,
    Scene,
    Thing,
    compose,
)
from stg_jax.errors import UserError

SIDE = 112  # pixels of the square picture
FPS = 12

_SHIFT = 6  # fractional bits of the coordinates handed to OpenCV


@dataclasses.dataclass(frozen=True)
class ToyClip:
    """A rendered clip and what its renderer knows.

    Attributes:
      id: unique over all splits.
      split: 'train', 'val' or 'test'.
      path: the video file, H.264 in MP4.
      captions: normalised paraphrases.
      true_box: (F, 6, 4) float32, x1 y1 x2 y2 in [0, 1] in every frame of the file; subject, then
        patient (zero where the event has none), then distractors; zero while off-screen.
    """

    id: str
    split: str
    path: Path
    captions: tuple[str, ...]
    true_box: np.ndarray


def render(
    folder: str | os.PathLike[str],
    *,
    seed: int,
    num_clips: Mapping[str, int],
    difficulty: Difficulty = USUAL,
) -> Iterator[ToyClip]:
    """Write `folder/<split>/<id>.mp4` clip by clip, and yield each once it is written.

    A clip depends on the seed, its split and its rank there, not on how many others there are.
    What happens to whom in 'val' and 'test' never happens in 'train' in that combination.

    Args:
      folder: created where needed.
      seed: of the whole world, not negative.
      num_clips: clips of each split; its keys are among 'train', 'val', 'test'.
      difficulty: of the scenes.

    Raises:
      UserError: a split has another name.
    """
    check_splits(num_clips)
    # One at a time: the films of thousands of clips would fill the memory before any is written.
    for split, count in num_clips.items():
        for index in range(count):
            yield render_clip(folder, split, index, seed, difficulty)


def check_splits(num_clips: Mapping[str, int]) -> None:
    """Check the names of splits.

    Raises:
      UserError: the toy world has no split of that name.
    """
    if unknown := set(num_clips) - set(SPLITS):
        raise UserError(f'the toy world has no split {sorted(unknown)}: use {", ".join(SPLITS)}')


def clip_id(split: str, index: int) -> str:
    """Name clip `index` of a split."""
    return f'{split}{index:05d}'


def render_clip(
    folder: str | os.PathLike[str],
    split: str,
    index: int,
    seed: int,
    difficulty: Difficulty = USUAL,
) -> ToyClip:
    """Write and return clip `index` of a split; see `render`."""
    scene = compose(split, index, seed, difficulty)
    path = Path(folder) / split / f'{clip_id(split, index)}.mp4'
    path.parent.mkdir(parents=True, exist_ok=True)
    background = _background(np.random.default_rng([seed, SPLITS.index(split), index, 1]))
    _write_video(path, _frames(scene, background))
    return ToyClip(path.stem, split, path, scene.captions, _true_boxes(scene))


def _background(rng: np.random.Generator) -> np.ndarray:
    """Draw a light, softly mottled picture, (SIDE, SIDE, 3) uint8."""
    # Not one color: detectors of the things must cope with shades, as in real videos.
    tint = rng.uniform(200, 235) + rng.uniform(-8, 8, 3)
    mottle = cv2.resize(rng.normal(0, 5, (9, 9, 3)), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    grain = rng.normal(0, 2, (SIDE, SIDE, 1))
    return (tint + mottle + grain).clip(0, 255).astype(np.uint8)


def _frames(scene: Scene, background: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the drawn frames, (SIDE, SIDE, 3) uint8 RGB."""
    outlines = [(thing, thing.outlines()) for thing in scene.draw_order]
    for rank in range(len(scene.things[0].path)):
        frame = background.copy()
        for thing, outline in outlines:
            _draw(frame, thing, outline, rank)
        yield frame


def _draw(frame: np.ndarray, thing: Thing, outlines: list[np.ndarray], rank: int) -> None:
    scale = SIDE * 2**_SHIFT
    # OpenCV counts from the centre of the first pixel, boxes from its edge.
    half = 2 ** (_SHIFT - 1)
    points = [
        np.round((thing.path[rank] + each) * scale - half).astype(np.int32) for each in outlines
    ]
    cv2.fillPoly(frame, points, COLOURS[thing.colour], cv2.LINE_AA, _SHIFT)


def _true_boxes(scene: Scene) -> np.ndarray:
    # The patient's place stays empty where there is none, so that row 1 never is a distractor.
    boxes = [thing.boxes() for thing in scene.things]
    nothing = np.zeros_like(boxes[0])
    if scene.event.num_actors == 1:
        boxes.insert(1, nothing)
    return np.stack(boxes + [nothing] * (MAX_THINGS - len(boxes)), axis=1)


def _write_video(path: Path, frames: Iterator[np.ndarray]) -> None:
    """Encode RGB frames as H.264, so that the same scene gives the same file."""
    # x264 repeats itself neither on several threads nor with its macroblock tree.
    # Faster presets give larger files of the same quality, which also decode in half the time.
    options = {'preset': 'ultrafast', 'crf': '18', 'threads': '1', 'x264-params': 'mbtree=0'}
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate=FPS, options=options)
        stream.width = stream.height = SIDE
        stream.pix_fmt = 'yuv420p'
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format='rgb24')))
        container.mux(stream.encode())
