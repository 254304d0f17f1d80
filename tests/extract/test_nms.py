"""The step that all detectors share: clip, suppress duplicates, keep the best."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as some

from stg_jax.extract.nms import best_detections

EVERYTHING = {'min_score': 0.0, 'max_objects': 100}


def best(box, score, label=None, **options):
    box, score = np.array(box, np.float32), np.array(score, np.float32)
    label = np.zeros(len(score), int) if label is None else np.array(label)
    return best_detections(box.reshape(-1, 4), score, label, **(EVERYTHING | options))


def overlap(a, b):
    sides = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)
    area = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
    return sides.prod() / (sum(area) - sides.prod())


LEFT, MOST_OF_LEFT, HALF_OF_LEFT = [0, 0, 0.5, 1], [0, 0, 0.5, 0.7], [0, 0, 0.5, 0.5]


def test_of_two_boxes_of_a_class_the_better_one_stays():
    found = best([MOST_OF_LEFT, LEFT], [0.8, 0.9])
    np.testing.assert_array_equal(found.box, np.float32([LEFT]))
    assert len(best([MOST_OF_LEFT, LEFT], [0.8, 0.9], [1, 2]).box) == 2
    assert len(best([HALF_OF_LEFT, LEFT], [0.8, 0.9]).box) == 2
    assert len(best([HALF_OF_LEFT, LEFT], [0.8, 0.9], max_overlap=0.4).box) == 1
    assert len(best([LEFT, LEFT], [0.8, 0.9], max_overlap=None).box) == 2


def test_a_suppressed_box_suppresses_nothing():
    # Each overlaps the next one by 0.7, and the one after that by half.
    ladder = [[0, 0, 1, 1], [0, 0, 1, 0.7], [0, 0, 1, 0.5]]
    np.testing.assert_allclose(best(ladder, [0.9, 0.8, 0.7]).box[:, 3], [1, 0.5])


def test_boxes_are_clipped_to_the_frame():
    found = best([[-0.5, 0.25, 0.5, 1.5]], [0.9])
    np.testing.assert_array_equal(found.box, np.float32([[0, 0.25, 0.5, 1]]))


def test_boxes_without_a_place_are_dropped():
    wrong = [
        [-1, 0, -0.1, 1],
        [0, 1.1, 1, 2],
        [0.5, 0, 0.5, 1],
        [0.6, 0, 0.4, 1],
        [np.nan, 0, 1, 1],
        [0, 0, np.inf, 1],
    ]
    assert len(best(wrong, [0.9] * len(wrong)).box) == 0
    assert len(best([LEFT], [np.nan]).box) == 0


def test_the_best_come_first_and_equals_keep_their_order():
    boxes = [[0, i / 8, 1, (i + 1) / 8] for i in range(6)]
    found = best(boxes, [0.5, 0.9, 0.5, 0.29, 0.9, 0.3], range(6), min_score=0.3, max_objects=4)
    assert found.label.tolist() == [1, 4, 0, 2]


@given(
    st.integers(0, 12).flatmap(
        lambda n: st.tuples(
            some.arrays(np.float32, (n, 4), elements=st.floats(-0.5, 1.5, width=32)),
            some.arrays(np.float32, n, elements=st.floats(0, 1, width=32)),
            some.arrays(np.int32, n, elements=st.integers(0, 2)),
        )
    ),
    st.integers(0, 6),
)
def test_what_is_left_is_in_order_apart_and_within_the_frame(boxes, max_objects):
    options = {'min_score': 0.25, 'max_objects': max_objects, 'max_overlap': 0.5}
    found = best_detections(*boxes, **options)
    assert len(found.box) == len(found.score) == len(found.label) <= max_objects
    assert (np.diff(found.score) <= 0).all()
    assert (found.score >= 0.25).all()
    assert (found.box >= 0).all() and (found.box <= 1).all()
    assert (found.box[:, :2] < found.box[:, 2:]).all()
    for i, one in enumerate(found.box):
        for j in range(i):
            if found.label[i] == found.label[j]:
                assert overlap(one, found.box[j]) <= 0.5 + 1e-5
    again = best_detections(found.box, found.score, found.label, **options)
    np.testing.assert_array_equal(again.box, found.box)
