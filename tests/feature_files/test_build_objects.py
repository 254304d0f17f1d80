import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stg_jax.feature_files.objects import build_objects, stack_steps


@st.composite
def boxes_in_pixels(draw):
    height, width = draw(st.tuples(st.integers(20, 2000), st.integers(20, 2000)))
    unit = st.floats(0, 1, width=32)
    corners = draw(st.lists(st.tuples(unit, unit, unit, unit), min_size=1, max_size=5))
    box = np.array(corners, np.float32).reshape(-1, 2, 2)
    box = np.sort(box, axis=1).reshape(1, -1, 4)
    box[0, 0] = [0, 0, 1, 1]  # no file of pixel boxes has only boxes of a pixel
    return box, height, width


@given(boxes_in_pixels(), st.integers(-1, 1))
def test_boxes_read_the_same_in_pixels_and_in_shares_of_the_frame(drawn, off):
    box, height, width = drawn
    size = np.float32([width, height, width, height])
    feature = np.ones((*box.shape[:2], 3))
    shares = build_objects('x', feature, box).box
    pixels = build_objects('x', feature, box * size, height=height, width=width).box
    np.testing.assert_array_equal(shares, box)
    np.testing.assert_allclose(pixels, box, atol=1e-6)
    if min(height, width) >= 50:  # rounding by a pixel is forgiven
        rounded = build_objects('x', feature, box * size + off, height=height, width=width).box
        assert ((rounded >= 0) & (rounded <= 1)).all()
        np.testing.assert_allclose(rounded, box, atol=1 / min(height, width) + 1e-6)


def test_pictures_with_fewer_objects_are_padded():
    few, many = (build_objects('x', np.ones((num, 3))) for num in (1, 4))
    joined = stack_steps([few, many])
    assert joined.mask.tolist() == [[True, False, False, False], [True] * 4]
    assert joined.label.tolist() == [[-1] * 4] * 2 and not joined.feature[0, 1:].any()
