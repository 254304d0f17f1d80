"""Random changes of features: what changes, how much, and what stays."""

import jax
import numpy as np
import pytest

from configs import common
from stg_jax.config import parse_config
from stg_jax.train.augment import make_augmentation
from tests.fakes.fake_network import fake_batch

SCALES = {'appearance': 2.0, 'motion': 1.0, 'object': 0.5, 'grid': 4.0}


def augmented(batch, key=0, **changes):
    data = {f'data__{name}': value for name, value in changes.items()}
    config = parse_config(common.get_config()).changed(**data).data
    found = make_augmentation(config, SCALES)(batch, jax.random.key(key))
    return {name: np.asarray(value) for name, value in found.items()}


def changed_kinds(batch, found):
    assert batch.keys() == found.keys()
    for name, value in batch.items():
        assert (found[name].shape, found[name].dtype) == (value.shape, value.dtype)
    return {name for name, value in batch.items() if not np.array_equal(found[name], value)}


def half_precision(batch):
    """Return the batch with features as they are stored."""
    return {
        name: value.astype(np.float16) if name in SCALES else value for name, value in batch.items()
    }


def test_by_default_nothing_changes():
    batch = fake_batch()
    assert changed_kinds(batch, augmented(batch)) == set()


def test_objects_are_left_out_by_chance_and_none_is_made():
    batch = fake_batch(200)
    found = augmented(batch, object_dropout=0.3)
    assert changed_kinds(batch, found) == {'object_mask'}
    assert not found['object_mask'][~batch['object_mask']].any()
    assert found['object_mask'][batch['object_mask']].mean() == pytest.approx(0.7, abs=0.05)


def test_noise_has_the_size_of_its_kind_and_spares_everything_else():
    batch = half_precision(fake_batch(200))
    found = augmented(batch, feature_noise=0.1)
    assert changed_kinds(batch, found) == set(SCALES)
    for kind, scale in SCALES.items():
        noise = found[kind].astype(float) - batch[kind]
        assert noise.std() == pytest.approx(0.1 * scale, rel=0.1)
        assert abs(noise.mean()) < 0.02 * scale


def test_features_near_the_limit_of_float16_stay_finite():
    batch = half_precision(fake_batch())
    batch['appearance'] = np.full_like(batch['appearance'], 65504)
    found = augmented(batch, feature_noise=1000.0, feature_dropout=0.5)
    assert np.isfinite(found['appearance']).all()


def test_feature_values_are_zeroed_and_the_others_keep_the_mean():
    batch = half_precision(fake_batch(200))
    batch['motion'] = np.ones_like(batch['motion'])
    found = augmented(batch, feature_dropout=0.25)
    assert changed_kinds(batch, found) == set(SCALES)
    assert (found['motion'] == 0).mean() == pytest.approx(0.25, abs=0.03)
    np.testing.assert_allclose(found['motion'][found['motion'] > 0], 1 / 0.75, rtol=1e-3)


def test_frames_come_from_nearby_in_order_and_all_kinds_together():
    batch = fake_batch(50)
    T = batch['appearance'].shape[1]
    for kind in ('appearance', 'motion', 'object', 'box', 'grid'):
        batch[kind] = np.zeros_like(batch[kind])
        batch[kind] += np.arange(T).reshape(1, T, *[1] * (batch[kind].ndim - 2))
    found = augmented(batch, frame_jitter=1)
    frame_BT = found['appearance'][..., 0]
    assert (abs(frame_BT - np.arange(T)) <= 1).all() and (np.diff(frame_BT) >= 0).all()
    assert len(np.unique(frame_BT, axis=0)) > 3
    for kind in ('motion', 'object', 'box', 'grid'):
        flat = found[kind].reshape(*frame_BT.shape, -1)
        np.testing.assert_array_equal(flat, np.broadcast_to(frame_BT[..., None], flat.shape))
    rows = np.arange(50)[:, None]
    expected = batch['object_mask'][rows, frame_BT.astype(int)]
    np.testing.assert_array_equal(found['object_mask'], expected)


def test_the_key_decides():
    batch, options = fake_batch(), {'feature_noise': 0.5, 'object_dropout': 0.5}
    first, again, other = (augmented(batch, key, **options) for key in (0, 0, 1))
    assert changed_kinds(first, again) == set()
    assert 'appearance' in changed_kinds(first, other)
