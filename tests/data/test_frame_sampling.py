import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stg_jax.data.frame_sampling import average_steps, pick_steps


def test_averages_equal_segments_and_repeats_where_short():
    steps = np.arange(6, dtype=np.float32)[:, None]
    assert average_steps(steps, 6).tolist() == steps.tolist()
    assert average_steps(steps, 3).ravel().tolist() == [0.5, 2.5, 4.5]
    assert average_steps(steps, 1).ravel().tolist() == [2.5]
    assert average_steps(steps[:2], 4).ravel().tolist() == [0, 0, 1, 1]
    # Four segments of 1.5 steps: (0 + 1/2) / 1.5, (1/2 + 2) / 1.5, ...
    np.testing.assert_allclose(average_steps(steps, 4).ravel() * 1.5, [0.5, 2.5, 5, 7])


@pytest.mark.parametrize('resample', [average_steps, pick_steps])
@given(num_steps=st.integers(1, 40), num_frames=st.integers(1, 40))
def test_resampling_keeps_a_constant_and_the_order_of_time(resample, num_steps, num_frames):
    steps = np.stack([np.full(num_steps, 3), np.arange(num_steps)], axis=1).astype(np.float32)
    constant, time = resample(steps, num_frames).T
    np.testing.assert_allclose(constant, 3, rtol=1e-6)
    assert (np.diff(time) >= 0).all()
    # Seen from both ends, the samples lie alike in the clip.
    centre = (num_steps - 1) / 2
    assert abs(time.mean() - centre) <= 0.5 + 1e-4


def test_picks_the_step_at_the_centre_of_each_part():
    steps = np.arange(24).reshape(6, 2, 2)
    assert pick_steps(steps, 3)[:, 0, 0].tolist() == [4, 12, 20]
    assert pick_steps(steps[:1], 2).tolist() == [steps[0].tolist()] * 2
