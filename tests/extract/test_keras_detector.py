"""Detectors of Keras Hub against the boxes that the library itself decodes."""

import cv2
import jax
import numpy as np
import pytest

from stg_jax.errors import UserError
from stg_jax.extract.keras.detector import KerasDetector
from stg_jax.extract.keras.preset import import_keras_hub
from tests.fakes import fake_presets

SIDE = 2 * fake_presets.SIDE
RNG = np.random.default_rng(0)
SIZES = [(SIDE, SIDE), (40, 80), (90, 30)]
# Smooth, so that it matters little how they are scaled.
FRAMES = [
    cv2.resize(RNG.integers(0, 256, (4, 4, 3), np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC)
    for size in SIZES
]


@pytest.fixture(scope='module', params=['d_fine', 'detector'])
def preset(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param) / 'preset'
    return str(getattr(fake_presets, f'tiny_{request.param}')(folder))


@pytest.fixture(scope='module')
def detector(preset):
    return KerasDetector(preset, min_score=0.0, batch_size=2, dtype='float32')


@pytest.fixture(scope='module')
def decoded(preset):
    """Return pixel boxes y1 x1 y2 x2, scores and classes of a square frame, by the library."""
    hub = import_keras_hub()
    task = hub.models.ObjectDetector.from_preset(preset)
    task.prediction_decoder = hub.layers.NonMaxSuppression(
        'yxyx', from_logits=True, iou_threshold=1.0, confidence_threshold=0.0, max_detections=20
    )
    pixels = FRAMES[0][None].astype(np.float32) / 255
    found = jax.jit(lambda x: task.decode_predictions(task(x), x))(pixels)
    score = np.asarray(found['confidence'][0])
    return (
        np.asarray(found['boxes'][0]),
        score.reshape(20, -1).max(-1),
        np.asarray(found['labels'][0]),
    )


def test_boxes_are_those_that_the_library_decodes(detector, decoded):
    box, score, _ = decoded
    wanted = np.clip(box[:, [1, 0, 3, 2]] / SIDE, 0, 1)
    (found,) = detector.detect(FRAMES[:1], 10)
    assert len(found.box) >= 5
    checked = found.score > score.min()  # the library was asked for 20
    assert checked.any()
    for one, its_score in zip(found.box[checked], found.score[checked], strict=True):
        distance = np.abs(wanted - one).max(axis=-1) + np.abs(score - its_score)
        assert distance.min() < 1e-3
    assert found.score[0] == pytest.approx(score.max(), abs=1e-4)


def test_boxes_lie_in_the_frame_and_scores_fall(detector):
    for found in detector.detect(FRAMES, 10):
        assert 0 < len(found.box) <= 10
        assert (found.box >= 0).all() and (found.box <= 1).all()
        assert (found.box[:, :2] < found.box[:, 2:]).all()
        assert (np.diff(found.score) <= 0).all()
        assert set(found.label) <= set(range(5))


def test_a_frame_does_not_depend_on_the_others(detector):
    together = detector.detect(FRAMES, 10)
    for frame, wanted in zip(FRAMES, together, strict=True):
        (alone,) = detector.detect([frame], 10)
        np.testing.assert_array_equal(alone.label, wanted.label)
        for name in ('box', 'score'):  # some processors add in another order at other places
            np.testing.assert_allclose(getattr(alone, name), getattr(wanted, name), atol=1e-5)


def test_a_frame_as_the_model_sees_it_gives_the_same_boxes(detector):
    """Boxes of a wide frame, mapped by hand to the square that the model sees."""
    wide = FRAMES[1]
    if detector._format.fit == 'stretch':
        seen = cv2.resize(wide, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
        top, share = 0.0, 1.0
    else:
        seen = np.full((SIDE, SIDE, 3), 114, np.uint8)
        seen[16:48] = cv2.resize(wide, (SIDE, 32))
        top, share = 0.25, 0.5
    in_frame, in_square = (detector.detect([frame], 300)[0] for frame in (wide, seen))
    # Boxes that reach into the border are cut where the frame ends.
    mapped = in_square.box.copy()
    mapped[:, [1, 3]] = np.clip((mapped[:, [1, 3]] - top) / share, 0, 1)
    for one, score in zip(in_frame.box[:5], in_frame.score[:5], strict=True):
        same = np.abs(in_square.score - score) < 1e-5
        assert np.abs(mapped[same] - one).max(axis=-1).min() < 1e-3


def test_low_scores_are_left_out(preset, detector):
    scores = [found.score for found in detector.detect(FRAMES, 20)]
    middle = float(np.median(np.concatenate(scores)))
    strict = KerasDetector(preset, min_score=middle, batch_size=2, dtype='float32')
    for found, all_scores in zip(strict.detect(FRAMES, 20), scores, strict=True):
        assert (found.score >= middle).all()
        assert (found.score == all_scores[all_scores >= middle][: len(found.score)]).all()


def test_bfloat16_finds_nearly_the_same_best_boxes(preset, detector):
    exact = detector.detect(FRAMES, 300)
    short = KerasDetector(preset, min_score=0.0, batch_size=2, dtype='bfloat16')
    for wanted, found in zip(exact, short.detect(FRAMES, 5), strict=True):
        for one in found.box:
            assert np.abs(wanted.box - one).max(axis=-1).min() < 0.03


def test_an_encoder_is_no_detector(tmp_path):
    folder = fake_presets.tiny_resnet(tmp_path / 'resnet')
    with pytest.raises(UserError, match=r'cannot be loaded as Keras Hub ObjectDetector'):
        KerasDetector(str(folder), min_score=0.3, batch_size=1, dtype='float32')
