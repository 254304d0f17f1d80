"""The extractor for real videos: what its parts say lands where a clip keeps it."""

import dataclasses
import json
import math

import numpy as np
import pytest

from stg_jax.data.clip import check_clip
from stg_jax.errors import UserError
from stg_jax.extract.base import Detections
from stg_jax.extract.pretrained import FeatureExtractor, Models
from stg_jax.extract.registry import build_extractor
from stg_jax.extract.video.frames import Video
from tests.fakes import fake_onnx
from tests.fakes.fake_video import grey_ramp, write_video

MODELS = Models(
    frames=4,
    objects=3,
    nodes='boxes',
    detector='difference',  # the parts are handed in: what they are called is not read
    frame_encoder='difference',
    clip_encoder='difference',
    object_features='roi',
    min_score=0.5,
    batch_size=2,
    dtype='float32',
)
GRID = dataclasses.replace(MODELS, nodes='grid', objects=4)


class BrightestCorner:
    """Finds as many objects as the tens of the brightness tell, side by side from the left."""

    class_names = ('thing',)

    def detect(self, frames, max_objects):
        return [self._detect(frame, max_objects) for frame in frames]

    def _detect(self, frame, max_objects):
        count = min(int(frame.mean()) // 10, max_objects)
        left = np.arange(count) / 4
        zero, one = np.zeros(count), np.ones(count)
        box = np.stack([left, zero, left + 0.25, one], axis=1).astype(np.float32)
        score = np.linspace(0.9, 0.6, count, dtype=np.float32)
        return Detections(box, score, np.arange(count, dtype=np.int32))


class Brightness:
    """Sees the mean brightness of a picture, and that of four columns as its map."""

    width = 1
    map_width = 1

    def encode(self, frames):
        columns = [frame.mean(axis=(0, 2)).reshape(4, -1).mean(axis=1) for frame in frames]
        maps = np.float32(columns)[:, None, :, None]
        return maps.mean(axis=(1, 2)), maps


class NoMap(Brightness):
    map_width = 0

    def encode(self, frames):
        return np.float32([[frame.mean()] for frame in frames]), None


class Change:
    width = 1
    context = 3

    def encode(self, windows):
        return np.float32(
            [[np.float32(window[-1]).mean() - window[0].mean()] for window in windows]
        )


def extractor(models=MODELS, encoder=None):
    detector = BrightestCorner() if models.nodes == 'boxes' else None
    return FeatureExtractor(models.settings(), detector, encoder or Brightness(), Change())


def fake_video(brightness, size=(8, 16)):
    """Return a video of four sampled frames, each ten brighter to the right."""
    frames = np.add.outer(np.float32(brightness), np.repeat(np.arange(4) * 10, size[1] // 4))
    frames = np.broadcast_to(frames[:, None, :, None], (4, size[0], size[1], 3)).astype(np.uint8)
    contexts = np.stack([frames, frames, frames + 2], axis=1)
    times = {'second_T': np.arange(4) / 25, 'start': 0.0, 'end': 4 / 25}
    shape = {'fps': 25.0, 'height': size[0], 'width': size[1]}
    return Video(contexts, np.arange(4), num_frames=4, **times, **shape)


def test_objects_are_the_detections_with_the_map_inside_their_boxes():
    (arrays,) = extractor().describe([fake_video([0, 5, 10, 30])])
    assert arrays['object_mask'].sum(axis=1).tolist() == [1, 2, 2, 3]
    # The map holds the columns' brightness; a box over column n sees only that one.
    np.testing.assert_allclose(arrays['object'][3, :, 0], [30, 40, 50], atol=3)
    assert (np.diff(arrays['object'][3, :, 0]) > 0).all()
    assert arrays['label'].tolist() == [[0, -1, -1], [0, 1, -1], [0, 1, -1], [0, 1, 2]]
    assert not arrays['object'][~arrays['object_mask']].any()
    np.testing.assert_allclose(arrays['appearance'][:, 0], [15, 20, 25, 45])
    np.testing.assert_allclose(arrays['motion'][:, 0], 2)


def test_crops_see_the_pixels_inside_their_boxes_exactly():
    models = dataclasses.replace(MODELS, object_features='crop')
    for encoder in (NoMap(), Brightness()):
        (arrays,) = extractor(models, encoder).describe([fake_video([0, 5, 10, 30])])
        np.testing.assert_allclose(arrays['object'][3, :, 0], [30, 40, 50])
        np.testing.assert_allclose(arrays['object'][0, :, 0], [0, 0, 0])


def test_grid_cells_are_objects_that_are_always_there():
    (arrays,) = extractor(GRID).describe([fake_video([0, 5, 10, 30])])
    assert arrays['object_mask'].all() and (arrays['score'] == 1).all()
    np.testing.assert_allclose(arrays['object'][3, :, 0], [35, 55, 35, 55], rtol=1e-6)
    np.testing.assert_allclose(arrays['box'][0, 1], [0.5, 0, 1, 0.5])


class Quarters(Brightness):
    """Sees the mean brightness of 4 x 8 cells, as 4 rows and 8 columns of a map."""

    def encode(self, frames):
        cells = [frame.mean(axis=-1).reshape(4, 2, 8, -1).mean(axis=(1, 3)) for frame in frames]
        maps = np.float32(cells)[..., None]
        return maps.mean(axis=(1, 2)), maps


@pytest.mark.parametrize(('side', 'cells'), [(1, 1), (2, 4), (4, 16), (7, 16)])
def test_the_map_is_stored_as_a_grid_of_at_most_so_many_cells(side, cells):
    models = dataclasses.replace(MODELS, grid_side=side)
    video = fake_video([0, 5, 10, 30])
    (arrays,) = extractor(models, Quarters()).describe([video])
    grid = arrays.pop('grid')
    assert grid.shape == (4, cells, 1)
    # Square numbers of cells, row by row: columns differ in brightness, rows do not.
    rows = grid.reshape(4, math.isqrt(cells), math.isqrt(cells))
    np.testing.assert_allclose(rows, rows[:, :1].repeat(len(rows[0]), 1), rtol=1e-6)
    assert (np.diff(rows) > 0).all()
    np.testing.assert_allclose(grid.mean(axis=1), arrays['appearance'], rtol=1e-6)
    # Everything else is as without a grid.
    (without,) = extractor(encoder=Quarters()).describe([video])
    assert arrays.keys() == without.keys()
    for kind, values in without.items():
        np.testing.assert_array_equal(arrays[kind], values)


def test_an_encoder_without_a_map_stores_no_grid():
    models = dataclasses.replace(MODELS, object_features='crop', grid_side=4)
    assert 'grid' not in extractor(models, NoMap()).describe([fake_video([0, 5, 10, 30])])[0]


def test_settings_from_before_grids_are_read(tmp_path):
    settings = onnx_models(tmp_path).settings()
    del settings['grid_side']
    FeatureExtractor.check(settings)
    path = write_video(tmp_path / 'ramp.mp4', grey_ramp())
    assert build_extractor(settings).extract(path).grid is None


def test_a_video_is_described_the_same_whatever_is_beside_it():
    videos = [fake_video([0, 5, 10, 30]), fake_video([20, 1, 2, 3], (12, 24)), fake_video([9] * 4)]
    together = extractor().describe(videos)
    for video, arrays in zip(videos, together, strict=True):
        (alone,) = extractor().describe([video])
        for kind in alone:
            np.testing.assert_array_equal(alone[kind], arrays[kind])


def test_an_encoder_without_a_map_cannot_pool_it():
    for models in (MODELS, GRID):
        with pytest.raises(UserError, match='no feature map to average over boxes'):
            extractor(models, NoMap())


def test_a_grid_is_square():
    with pytest.raises(UserError, match='a grid needs a square number of objects, not 5'):
        dataclasses.replace(GRID, objects=5).settings()


def onnx_models(folder):
    pytest.importorskip('onnx')
    encoder = fake_onnx.save_encoder(folder / 'encoder.onnx')
    return dataclasses.replace(GRID, frame_encoder=f'onnx:{encoder}')


def test_settings_in_a_manifest_build_the_extractor_again(tmp_path):
    path = write_video(tmp_path / 'ramp.mp4', grey_ramp())
    models = dataclasses.replace(onnx_models(tmp_path), grid_side=7)
    settings = json.loads(json.dumps(models.settings()))
    clip = build_extractor(settings).extract(path, captions=['it gets lighter'])
    check_clip(clip)
    assert (clip.id, clip.object_mask.shape, clip.height) == ('ramp', (4, 4), 32)
    assert (np.diff(clip.appearance.mean(axis=1)) > 0).all() and clip.motion.any()
    assert clip.grid.shape == (4, 4, 3)  # of a map of 2 x 3 cells
    again = build_extractor(settings).extract(path)
    for kind in ('appearance', 'motion', 'object', 'box', 'grid'):
        np.testing.assert_array_equal(getattr(again, kind), getattr(clip, kind))


def test_another_model_under_the_same_name_is_refused(tmp_path):
    settings = onnx_models(tmp_path).settings()
    fake_onnx.save_encoder(tmp_path / 'encoder.onnx', pool=16)
    with pytest.raises(UserError, match=r'encoder\.onnx is not the model that made'):
        build_extractor(settings)
    (tmp_path / 'encoder.onnx').unlink()
    with pytest.raises(UserError, match=r'encoder\.onnx does not exist'):
        build_extractor(settings)


@pytest.mark.parametrize('part', ['detector', 'frame_encoder', 'clip_encoder'])
def test_a_mistyped_part_is_one_sentence(part):
    models = dataclasses.replace(MODELS, **{part: 'torch:resnet'})
    with pytest.raises(
        UserError, match=r'must be the name of a model such as .*onnx:FILE.*torch:resnet'
    ):
        models.settings()


def test_all_parts_of_keras_hub_together(tmp_path):
    from tests.fakes import fake_presets  # here: it takes seconds

    models = dataclasses.replace(
        MODELS,
        detector=f'keras:{fake_presets.tiny_d_fine(tmp_path / "detector")}',
        frame_encoder=f'keras:{fake_presets.tiny_resnet(tmp_path / "encoder")}',
        clip_encoder=f'keras:{fake_presets.tiny_video_prism(tmp_path / "motion")}',
        min_score=0.0,
        grid_side=2,
    )
    path = write_video(tmp_path / 'ramp.mp4', grey_ramp())
    clip = build_extractor(models.settings()).extract(path)
    check_clip(clip)
    assert clip.object_mask.all()
    assert (clip.appearance.shape[1], clip.motion.shape[1], clip.object.shape[2]) == (128, 16, 128)
    assert clip.grid.shape == (4, 4, 128)


def test_features_of_the_first_version_are_told_apart():
    with pytest.raises(UserError, match="version 1 of the extractor 'models'"):
        build_extractor({'name': 'models', 'version': 1})
