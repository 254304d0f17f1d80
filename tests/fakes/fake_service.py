"""A captioner with random parameters that reads any video, and the features that it captions."""

import copy
import io

import numpy as np

from stg_jax.data.clip import no_objects
from stg_jax.extract.base import Stages
from tests.fakes import fake_data
from tests.fakes.fake_captioner import fake_captioner


class BrightnessExtractor:
    """Make features of the brightness of the frames."""

    sampling = {'num_frames': fake_data.FRAMES}  # noqa: RUF012
    class_names = ()

    def describe(self, videos, stages=None):
        with (stages or Stages()).measure('embed'):
            return [self._describe(video.frames.mean((1, 2, 3)) / 64) for video in videos]

    def _describe(self, brightness_T):
        widths = {'appearance': fake_data.APPEARANCE, 'motion': fake_data.MOTION}
        features = {
            name: np.outer(brightness_T, np.linspace(-1, 1, width)).astype(np.float32)
            for name, width in widths.items()
        }
        return features | no_objects(fake_data.FRAMES, fake_data.OBJECTS, fake_data.OBJECT)


def fake_video_captioner():
    captioner = copy.copy(fake_captioner())
    captioner.extractor = BrightnessExtractor()
    return captioner


def npz(**arrays):
    """Return the bytes of an archive."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def features_of(clip):
    """Return the arrays of a clip that a batch would have."""
    names = ('appearance', 'motion', 'grid', 'object', 'box', 'object_mask')
    return {name: getattr(clip, name) for name in names if getattr(clip, name) is not None}
