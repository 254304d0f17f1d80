"""RoIAlign against a slow reference, by hand and by what must not change it."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stg_jax.extract import roi_align as module

roi_align = jax.jit(module.roi_align, static_argnames=('size', 'samples'))
grid_nodes = jax.jit(module.grid_nodes, static_argnames='num_objects')

RNG = np.random.default_rng(0)
WHOLE = np.array([[[0.0, 0.0, 1.0, 1.0]]], np.float32)


def random_map(height, width, frames=1, channels=3):
    return RNG.normal(size=(frames, height, width, channels)).astype(np.float32)


def random_boxes(frames, num, rng=RNG):
    corner = np.sort(rng.uniform(size=(frames, num, 2, 2)), axis=-2)
    return corner.reshape(frames, num, 4).astype(np.float32)


def bilinear(map_hwC, y, x):
    """Look one value up, in units of cells, as one would write it for one pixel."""
    height, width, _ = map_hwC.shape
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, along = y - top, x - left
    upper = (1 - along) * map_hwC[top, left] + along * map_hwC[top, right]
    lower = (1 - along) * map_hwC[bottom, left] + along * map_hwC[bottom, right]
    return (1 - down) * upper + down * lower


def slow_roi_align(map_hwC, box, size, samples):
    height, width, _ = map_hwC.shape
    x1, y1, x2, y2 = box.astype(np.float64)
    bins = []
    for i in range(size):
        for j in range(size):
            values = [
                bilinear(
                    map_hwC.astype(np.float64),
                    (y1 + (y2 - y1) * (i + (k + 0.5) / samples) / size) * height - 0.5,
                    (x1 + (x2 - x1) * (j + (m + 0.5) / samples) / size) * width - 0.5,
                )
                for k in range(samples)
                for m in range(samples)
            ]
            bins.append(np.mean(values, axis=0))
    return np.mean(bins, axis=0)


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers(1, 3), st.integers(0, 9)
)
def test_equals_a_reference_that_takes_pixel_by_pixel(height, width, size, samples, seed):
    rng = np.random.default_rng(seed)
    map_FhwC = rng.normal(size=(1, height, width, 2)).astype(np.float32)
    box = random_boxes(1, 1, rng)
    wanted = slow_roi_align(map_FhwC[0], box[0, 0], size, samples)
    pooled = roi_align(map_FhwC, box, size=size, samples=samples)
    np.testing.assert_allclose(pooled[0, 0], wanted, atol=1e-5)


def test_every_frame_is_pooled_over_its_own_boxes():
    map_FhwC, box = random_map(6, 5, frames=3), random_boxes(3, 4)
    pooled = roi_align(map_FhwC, box)
    for f in range(3):
        for n in range(4):
            wanted = slow_roi_align(map_FhwC[f], box[f, n], 7, 2)
            np.testing.assert_allclose(pooled[f, n], wanted, atol=1e-5)


def test_a_constant_map_gives_its_constant_everywhere():
    pooled = roi_align(np.full((2, 5, 9, 3), 2.5, np.float32), random_boxes(2, 6))
    np.testing.assert_allclose(pooled, 2.5, rtol=1e-6)


def test_a_ramp_gives_the_centre_of_the_box():
    height, width = 8, 10
    row, column = np.mgrid[:height, :width]
    # The value of a cell is where its centre lies in the frame.
    map_hwC = np.stack([(column + 0.5) / width, (row + 0.5) / height], axis=-1)
    box = random_boxes(1, 20)
    # Within the outermost centres, outside of which a map goes on flat.
    inner = 0.5 / np.array([width, height, width, height])
    box = (inner + box * (1 - 2 * inner)).astype(np.float32)
    pooled = roi_align(map_hwC[None].astype(np.float32), box)
    np.testing.assert_allclose(pooled, (box[..., :2] + box[..., 2:]) / 2, atol=1e-6)


@pytest.mark.parametrize('side', [1, 2, 7, 14])
def test_the_whole_frame_gives_the_mean_where_samples_spread_evenly_over_cells(side):
    map_FhwC = random_map(side, side)
    np.testing.assert_allclose(
        roi_align(map_FhwC, WHOLE)[0, 0], map_FhwC[0].mean(axis=(0, 1)), atol=1e-6
    )


def test_by_hand():
    map_FhwC = np.array([[[[0.0], [1.0]], [[2.0], [3.0]]]], np.float32)
    # One sample in the middle of each box: the frame's centre, a cell's centre, half-way to it.
    box = np.array([[[0, 0, 1, 1], [0, 0, 0.5, 0.5], [0.5, 0.5, 1, 0.5]]], np.float32)
    pooled = roi_align(map_FhwC, box, size=1, samples=1)
    np.testing.assert_allclose(pooled[0, :, 0], [1.5, 0.0, 2.0], atol=1e-6)


def test_mirrors_and_transposes_with_the_picture():
    map_FhwC, box = random_map(6, 9), random_boxes(1, 5)
    pooled = roi_align(map_FhwC, box)
    x1, y1, x2, y2 = np.moveaxis(box, -1, 0)
    mirrored = np.stack([1 - x2, y1, 1 - x1, y2], axis=-1)
    np.testing.assert_allclose(roi_align(map_FhwC[:, :, ::-1], mirrored), pooled, atol=1e-5)
    transposed = np.stack([y1, x1, y2, x2], axis=-1)
    np.testing.assert_allclose(
        roi_align(map_FhwC.transpose(0, 2, 1, 3), transposed), pooled, atol=1e-5
    )


def test_a_box_does_not_see_cells_far_from_it():
    map_FhwC = random_map(8, 8)
    box = np.array([[[0.5, 0.5, 0.9, 0.9]]], np.float32)
    gradient = jax.grad(lambda m: roi_align(m, box).sum())(map_FhwC)
    seen = np.abs(gradient).sum(axis=(0, 3)) > 0
    # Cell 3 ends at the border of the box and still takes part in the interpolation.
    assert seen[3:, 3:].all() and not seen[:3].any() and not seen[:, :3].any()


def test_grid_cells_are_the_means_of_their_parts():
    map_FhwC = random_map(6, 4, frames=2)
    object_FNC, box_FN4 = grid_nodes(map_FhwC, 5)
    assert object_FNC.shape == (2, 4, 3)
    blocks = map_FhwC.reshape(2, 2, 3, 2, 2, 3).mean(axis=(2, 4)).reshape(2, 4, 3)
    np.testing.assert_allclose(object_FNC, blocks, atol=1e-6)
    halves = [[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1]]
    np.testing.assert_allclose(box_FN4, [halves, halves], atol=1e-6)


def test_grid_cells_equal_roi_align_sampled_at_the_centres_of_the_map():
    map_FhwC = random_map(6, 6)
    object_FNC, box_FN4 = grid_nodes(map_FhwC, 9)
    np.testing.assert_allclose(
        roi_align(map_FhwC, box_FN4, size=2, samples=1), object_FNC, atol=1e-5
    )


@pytest.mark.parametrize(
    ('height', 'width', 'num'), [(7, 7, 36), (5, 8, 10), (2, 3, 16), (7, 7, 1)]
)
def test_grid_cells_share_the_map_out_without_loss(height, width, num):
    map_FhwC = random_map(height, width)
    object_FNC, box_FN4 = grid_nodes(map_FhwC, num)
    np.testing.assert_allclose(object_FNC.mean(axis=1)[0], map_FhwC.mean(axis=(0, 1, 2)), atol=1e-5)
    area = (box_FN4[..., 2] - box_FN4[..., 0]) * (box_FN4[..., 3] - box_FN4[..., 1])
    np.testing.assert_allclose(area.sum(), 1, rtol=1e-5)
    assert (box_FN4 >= 0).all() and (box_FN4 <= 1 + 1e-6).all()
