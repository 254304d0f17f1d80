"""Draw the pictures of the documentation from the toy world.

python docs/make_pictures.py [runs/toy]
"""

import itertools
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import stg_jax
from stg_jax.datasets import toy
from stg_jax.datasets.toy.events import EVENTS
from stg_jax.datasets.toy.render import render_clip
from stg_jax.datasets.toy.scenes import USUAL, Difficulty, compose
from stg_jax.extract.toy_pixels.extractor import NO_NOISE, DetectorNoise, PixelExtractor
from stg_jax.extract.video.frames import read_frames
from stg_jax.files import read_json
from stg_jax.prepare.verify.contact_sheet import draw_row
from stg_jax.visualize.matplotlib import new_figure, save_figure

_FOLDER = Path(__file__).parent / 'images'
_CLIPS, _FRAMES, _OBJECTS, _SIDE = (0, 2, 5), 6, 6, 224
_SMALL = 128  # pixels of a frame where many are shown
_QUALITY = (cv2.IMWRITE_JPEG_QUALITY, 80)
# Test clips whose captions are explained, and the width of the picture in pixels.
_EXPLAINED, _WIDTH = ('test00002', 'test00024'), 1400

_SAYS = {
    'object': 'object branch (teacher): objects',
    'scene': 'scene branch (student): frames',
    'scene_cells': 'scene branch (student): grid cells',
}
_CURVES = (
    ('insertion', '#1257d0', '-', 'the most relevant added first'),
    ('insertion_random', '#1257d0', ':', 'added in random order'),
    ('deletion', '#d0021b', '-', 'the most relevant taken away first'),
    ('deletion_random', '#d0021b', ':', 'taken away in random order'),
)


def main() -> None:
    """Write toy.jpg, events.jpg, knobs.jpg and, of a run, explain.jpg and faithfulness.svg.

    The last one is drawn from what launch/explain.py wrote.
    """
    draw_toy()
    draw_events()
    draw_knobs()
    for workdir in sys.argv[1:]:
        draw_explanation(workdir)
        found = read_json(Path(workdir) / 'eval' / 'test' / 'explanations.json')
        draw_faithfulness(found['faithfulness'])


def draw_toy() -> None:
    """Write images/toy.jpg: sampled frames of toy clips with the detected boxes."""
    with tempfile.TemporaryDirectory() as folder:
        films = list(toy.render(Path(folder), seed=0, num_clips={'train': max(_CLIPS) + 1}))
        _write('toy', [_row(films[i]) for i in _CLIPS])


def draw_events() -> None:
    """Write images/events.jpg: one clip of each event, with a caption."""
    with tempfile.TemporaryDirectory() as folder:
        _write('events', [_seen(folder, _first(event.name), USUAL) for event in EVENTS])


def draw_knobs() -> None:
    """Write images/knobs.jpg: a clip as it is, with more things, and with a worse detector."""
    noise, crowded, clip = DetectorNoise(0.3, 0.3), Difficulty(distractors=3), _first('chase')
    with tempfile.TemporaryDirectory() as folder:
        rows = [_seen(folder, clip, USUAL), _seen(folder, clip, crowded)]
        _write('knobs', [*rows, _seen(folder, clip, USUAL, noise)])


def draw_explanation(workdir: str) -> None:
    """Write images/explain.jpg: clips, their captions, and what each word came from."""
    captioner = stg_jax.load(workdir)
    videos = Path(captioner.run.config.data.dir) / 'videos' / 'test'
    report = captioner.explain(*(videos / f'{clip}.mp4' for clip in _EXPLAINED))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'figure.png'
        report.save(path)
        picture = cv2.imread(str(path))
    assert picture is not None
    size = _WIDTH, round(_WIDTH * picture.shape[0] / picture.shape[1])
    picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(_FOLDER / 'explain.jpg'), picture, _QUALITY)


def draw_faithfulness(found: dict[str, dict[str, Any]]) -> None:
    """Write images/faithfulness.svg: deletion and insertion curves by branch."""
    figure = new_figure(4.2 * len(found), 3.4)
    panels = figure.subplots(1, len(found), squeeze=False, sharey=True)[0]
    for axes, (branch, curves) in zip(panels, found.items(), strict=True):
        for name, colour, style, label in _CURVES:
            axes.plot(curves['share'], curves[name], style, color=colour, label=label)
        axes.set_title(_SAYS.get(branch, branch), fontsize=10, loc='left')
        axes.set_xlabel('share taken away or added')
        axes.grid(alpha=0.3)
    panels[0].set_ylabel('mean probability of a word')
    figure.legend(*panels[0].get_legend_handles_labels(), loc='outside lower center', ncols=2)
    save_figure(figure, _FOLDER / 'faithfulness.svg', dpi=100)


def _first(event: str) -> int:
    """Find the first train clip of an event; composing a scene renders nothing."""
    return next(i for i in itertools.count() if compose('train', i, seed=0).event.name == event)


def _seen(
    folder: str, index: int, difficulty: Difficulty, noise: DetectorNoise = NO_NOISE
) -> np.ndarray:
    film = render_clip(folder, 'train', index, 0, difficulty)
    return _row(film, _SMALL, noise)


def _row(film: toy.ToyClip, side: int = _SIDE, noise: DetectorNoise = NO_NOISE) -> np.ndarray:
    clip = PixelExtractor(_FRAMES, _OBJECTS, noise=noise).extract(film.path)
    return draw_row(read_frames(film.path, _FRAMES).frames, clip, film.captions[0], side=side)


def _write(name: str, rows: list[np.ndarray]) -> None:
    _FOLDER.mkdir(exist_ok=True)
    cv2.imwrite(str(_FOLDER / f'{name}.jpg'), np.concatenate(rows)[..., ::-1], _QUALITY)


if __name__ == '__main__':
    main()
