"""Augment the features of a training batch, on the devices.

Only training does this. All augmentations are off by default.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from stg_jax.config import DataConfig
from stg_jax.model.network import DeviceBatch
from stg_jax.ops.dropout import Dropout

Augmentation = Callable[[DeviceBatch, jax.Array], DeviceBatch]  # (batch, key) -> batch

_OF_FRAMES = ('appearance', 'motion', 'object', 'box', 'object_mask', 'grid')


def make_augmentation(config: DataConfig, scales: Mapping[str, float]) -> Augmentation:
    """Build `augment(batch, key) -> batch` from the options in `config.data`.

    Args:
      config: the options.
      scales: standard deviation of each kind of features.
    """

    def augment(batch: DeviceBatch, key: jax.Array) -> DeviceBatch:
        changed = dict(batch)
        kinds = [kind for kind in scales if kind in batch]
        # Frames first, so that copies of one frame lose different values and objects.
        if config.frame_jitter:
            changed |= _jittered(changed, jax.random.fold_in(key, 0), config.frame_jitter)
        if config.object_dropout:
            mask_BTN = changed['object_mask']
            kept_BTN = jax.random.bernoulli(
                jax.random.fold_in(key, 1), 1 - config.object_dropout, mask_BTN.shape
            )
            changed['object_mask'] = mask_BTN & kept_BTN
        for number, kind in enumerate(kinds):
            if config.feature_noise or config.feature_dropout:
                value_key = jax.random.fold_in(key, 2 + number)
                changed[kind] = _perturbed(changed[kind], value_key, scales[kind], config)
        return changed

    return augment


def _jittered(batch, key, most):
    """Replace every frame by one up to `most` places away, the same for all kinds of features."""
    B, T = batch['appearance'].shape[:2]
    away_BT = jax.random.randint(key, (B, T), -most, most + 1)
    # Sorted: a clip that goes back in time would show another event.
    frame_BT = jnp.sort(jnp.clip(jnp.arange(T) + away_BT, 0, T - 1))
    take = jax.vmap(lambda x_T, frame_T: x_T[frame_T])
    return {kind: take(batch[kind], frame_BT) for kind in _OF_FRAMES if kind in batch}


def _perturbed(x, key, scale, config):
    """Add noise to features and zero some of them."""
    noise_key, drop_key = jax.random.split(key)
    changed = x.astype(jnp.float32)
    if config.feature_noise:
        changed += config.feature_noise * scale * jax.random.normal(noise_key, x.shape)
    drop = Dropout(config.feature_dropout)
    dropped: Any = drop.apply({}, changed, False, rngs={'dropout': drop_key})
    # A value beyond the range of float16 would become infinite.
    limit = float(jnp.finfo(x.dtype).max)
    return jnp.clip(dropped, -limit, limit).astype(x.dtype)
