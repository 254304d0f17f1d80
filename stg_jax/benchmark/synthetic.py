"""A network of any config and random clips for it, with captions as long as real ones."""

from typing import Any

import numpy as np

from stg_jax.data.vocab import BOS, EOS, PAD, SPECIAL
from stg_jax.model.captioner import CaptioningModel, ModelSpec
from stg_jax.run.network import feature_shapes

VOCAB_SIZE = 9462 + len(SPECIAL)  # MSVD's words
# Of every 10,000 of MSVD's 48,774 train captions, how many have 1, 2, ... words; the last number
# counts 20 and more. The mean is 7.0 words.
LENGTHS = (8, 54, 269, 993, 1584, 2146, 1579, 1183, 800, 487, 296, 189, 122, 81, 57, 33, 29, 22)
LENGTHS += (19, 49)

Batch = dict[str, np.ndarray]


def make_model(config: Any) -> CaptioningModel:
    """Return the network of a config with MSVD's number of words."""
    spec = ModelSpec(
        **config.model,
        max_words=config.data.max_words,
        vocab_size=VOCAB_SIZE,
        scale=(1.0, 1.0, 1.0),
    )
    return CaptioningModel(spec)


def random_features(config: Any, num_clips: int, seed: int) -> Batch:
    """Return features of clips (B, ...) whose frames hold 0 to N objects, the first at least 1."""
    rng = np.random.default_rng(seed)
    shapes = feature_shapes(config)
    num_frames, num_objects = shapes['object_mask'].shape
    count_BT = rng.integers(0, num_objects + 1, (num_clips, num_frames))
    count_BT[:, 0] = np.maximum(count_BT[:, 0], 1)
    mask_BTN = np.arange(num_objects) < count_BT[..., None]
    corner_BTN22 = rng.uniform(size=(*mask_BTN.shape, 2, 2))
    batch = {
        key: rng.standard_normal((num_clips, *shapes[key].shape), np.float32)
        for key in ('appearance', 'motion', 'object')
    }
    batch['object'] *= mask_BTN[..., None]
    batch['box'] = np.sort(corner_BTN22, axis=-2).reshape(*mask_BTN.shape, 4)
    batch['object_mask'] = mask_BTN
    return {key: batch[key].astype(shapes[key].dtype) for key in shapes}


def random_tokens(config: Any, num_clips: int, seed: int) -> np.ndarray:
    """Return captions (B, K, L) of random words, their lengths drawn from `LENGTHS`."""
    rng = np.random.default_rng(seed)
    shape = num_clips, config.data.captions_per_clip
    share = np.array(LENGTHS) / sum(LENGTHS)
    num_words_BK = rng.choice(np.arange(1, len(LENGTHS) + 1), shape, p=share)
    num_words_BK1 = np.minimum(num_words_BK, config.data.max_words)[..., None]
    place_L = np.arange(config.data.max_words + 2)
    token_BKL = rng.integers(len(SPECIAL), VOCAB_SIZE, (*shape, len(place_L)), np.int32)
    token_BKL[place_L > num_words_BK1] = PAD
    token_BKL[place_L == num_words_BK1 + 1] = EOS
    token_BKL[..., 0] = BOS
    return token_BKL


def random_batch(config: Any, num_clips: int, seed: int) -> Batch:
    """Return features and captions of clips."""
    tokens = random_tokens(config, num_clips, seed)
    return random_features(config, num_clips, seed) | {'tokens': tokens}
