import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stg_jax.data.clip import no_objects
from stg_jax.feature_files.objects import best_objects, build_objects


@given(st.data(), st.integers(1, 6), st.integers(1, 6))
@settings(max_examples=50)
def test_the_best_objects_of_the_picked_steps_keep_what_belongs_to_them(data, num_frames, most):
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    shape = data.draw(st.tuples(st.integers(1, 4), st.integers(0, 5)))
    objects = build_objects(
        'x',
        rng.normal(size=(*shape, 3)),
        score=rng.choice([0.25, 0.5, 1], shape),
        label=rng.integers(0, 9, shape),
        mask=rng.random(shape) < 0.6,
    )
    index = rng.integers(0, shape[0], num_frames)
    arranged = best_objects(objects, index, most)
    empty = no_objects(num_frames, most, 3)
    for frame, step in enumerate(index):
        real = np.flatnonzero(objects.mask[step])
        best = sorted(real, key=lambda i: -objects.score[step, i])[:most]  # sorted() is stable
        pairs = {'object': 'feature', 'object_mask': 'mask'}
        for kind, values in arranged.items():
            source = getattr(objects, pairs.get(kind, kind))
            np.testing.assert_array_equal(values[frame, : len(best)], source[step, best])
            np.testing.assert_array_equal(values[frame, len(best) :], empty[kind][0, len(best) :])
            assert values.dtype == empty[kind].dtype
