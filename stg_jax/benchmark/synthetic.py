"""Random clips and captions like MSVD's, and a random network as confident as a trained one."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stg_jax.config import Config, DataConfig
from stg_jax.data.batches import Batch, Clips, keeper
from stg_jax.data.captions import Captions, append_captions, read_captions
from stg_jax.data.manifest import NAME, Manifest
from stg_jax.data.sampler import Order, Sampling
from stg_jax.data.vocab import BOS, EOS, PAD, SPECIAL, Vocabulary
from stg_jax.model.network import CaptioningModel
from stg_jax.run.build import build_model_without_data, feature_shapes

VOCAB_SIZE = 9462 + len(SPECIAL)  # MSVD's words
# Number of captions with 1, 2, ... words (the last: 20 or more) per 10,000 of MSVD's 48,774 train
# captions. The mean is 7.0 words. Uniform lengths would overstate the gain of packing.
LENGTHS = (8, 54, 269, 993, 1584, 2146, 1579, 1183, 800, 487, 296, 189, 122, 81, 57, 33, 29, 22)
CAPTIONS = 40  # of a clip, as in MSVD
# Factor of the logits. It raises the mean log-probability of a caption's words from -3 to -0.8; a
# network trained on MSVD has -0.7 on the captions that it finds for new clips.
_SHARPNESS = 1.7
_CAPTIONS = 8  # random captions of each clip, to fit the vector of EOS on
# In words; captions come out about four words longer. Models vary in length less than people do.
_SHORTEST, _LONGEST = 2, 6
_RIDGE = 1.0
_SLOPE, _MOST = 5.0, 60.0  # of the logit of EOS; the logits of words reach about 13
PyTree = Any


LENGTHS += (19, 49)


def make_model(config: Config) -> CaptioningModel:
    """Build the network of a config with the vocabulary size of MSVD."""
    return build_model_without_data(config, VOCAB_SIZE)


def random_features(config: Config, num_clips: int, seed: int) -> Batch:
    """Draw features of clips (B, ...) whose frames have 0 to N objects, the first at least 1."""
    rng = np.random.default_rng(seed)
    shapes = feature_shapes(config.data)
    num_frames, num_objects = shapes['object_mask'].shape
    count_BT = rng.integers(0, num_objects + 1, (num_clips, num_frames))
    # The object branch needs an object in every clip; padding would otherwise be measured as work.
    count_BT[:, 0] = np.maximum(count_BT[:, 0], 1)
    mask_BTN = np.arange(num_objects) < count_BT[..., None]
    corner_BTN22 = rng.uniform(size=(*mask_BTN.shape, 2, 2))
    batch: Batch = {
        key: rng.standard_normal((num_clips, *shapes[key].shape), np.float32)
        for key in ('appearance', 'motion', 'object')
    }
    # Absent objects are zero in real data, too.
    batch['object'] *= mask_BTN[..., None]
    batch['box'] = np.sort(corner_BTN22, axis=-2).reshape(*mask_BTN.shape, 4)
    batch['object_mask'] = mask_BTN
    return {key: batch[key].astype(shapes[key].dtype) for key in shapes}


def random_tokens(config: Config, num_clips: int, seed: int) -> np.ndarray:
    """Draw captions (B, K, L) of random words, their lengths from `LENGTHS`."""
    rng = np.random.default_rng(seed)
    shape = num_clips, config.data.captions_per_clip
    share = np.array(LENGTHS) / sum(LENGTHS)
    num_words_BK = rng.choice(np.arange(1, len(LENGTHS) + 1), shape, p=share)
    num_words_BK1 = np.minimum(num_words_BK, config.data.max_words)[..., None]
    place_L = np.arange(config.data.max_words + 2)
    token_BKL = rng.integers(len(SPECIAL), VOCAB_SIZE, (*shape, len(place_L)), np.int32)
    # BOS is at place 0, so EOS follows the words at num_words + 1.
    token_BKL[place_L > num_words_BK1] = PAD
    token_BKL[place_L == num_words_BK1 + 1] = EOS
    token_BKL[..., 0] = BOS
    return token_BKL


def random_batch(config: Config, num_clips: int, seed: int) -> Batch:
    """Draw features and captions of clips."""
    tokens = random_tokens(config, num_clips, seed)
    return random_features(config, num_clips, seed) | {'tokens': tokens}


def write_captions(config: Config, splits: Mapping[str, int]) -> None:
    """Write a data folder without shards at `config.data.dir`: manifest and random captions.

    Args:
      config: gives the shapes.
      splits: number of clips of each split.
    """
    folder, data, rng = Path(config.data.dir), config.data, np.random.default_rng(0)
    folder.mkdir(parents=True)
    for split, number in splits.items():
        for i in range(number):
            texts = [_random_caption(rng) for _ in range(CAPTIONS)]
            append_captions(folder, split, f'{split}{i}', texts)
    widths = {kind: getattr(data, f'{kind}_dim') for kind in ('appearance', 'motion', 'object')}
    Manifest(
        data_set='random',
        frames=data.frames,
        objects=data.objects,
        widths=widths,
        scale=dict.fromkeys(widths, 1.0),
        extractor={'name': 'random'},
        splits={s: {'clips': n, 'captions': n * CAPTIONS} for s, n in splits.items()},
        missing={},
        sources={},
    ).save(folder / NAME)


def open_random_clips(config: Config, data: DataConfig, vocab: Vocabulary, split: str) -> Clips:
    """Open a split written by `write_captions`, in place of `data.batches.open_clips`."""
    captions = read_captions(data.dir, split)
    clips: Any = RandomClips(config, split, list(captions))  # has the interface of a stream
    source = keeper(data.cache)(clips)
    return Clips(data, source, Captions(captions, vocab, data.max_words))


@dataclasses.dataclass(frozen=True)
class Whole:
    """Takes the place of a split and of the shards that a host reads: all clips, in one piece.

    Attributes:
      manifest: of the data folder.
      folder: path of the data folder.
      name: of the split.
      num_clips: number of clips of the split.
    """

    manifest: Manifest
    folder: str
    name: str
    num_clips: int
    first = 0
    host = None
    paths = ('memory',)

    def numbers(self, order: Order) -> Iterator[np.ndarray]:
        """Yield the clip numbers of each pass, in a new order."""
        skips = [order.skipped] + [0] * len(order.seeds)
        for seed, skip in zip(order.seeds, skips, strict=False):
            yield np.random.default_rng(seed).permutation(self.num_clips)[skip:]


class RandomClips:
    """Random features in memory, with the interface of `data.stream.StreamedClips`."""

    def __init__(self, config: Config, split: str, ids: list[str]):
        manifest = Manifest.load(config.data.dir)
        self.split = self.part = Whole(manifest, config.data.dir, split, len(ids))
        self._arrays = random_features(config, len(ids), seed=0) | {'id': np.array(ids, object)}

    def zeros(self, num_clips: int) -> dict[str, np.ndarray]:
        """Build a batch of padding."""
        zeros = {
            name: np.zeros((num_clips, *x.shape[1:]), x.dtype) for name, x in self._arrays.items()
        }
        return zeros | {'id': np.full(num_clips, '', object)}

    def features(self, sampling: Sampling) -> Iterator[dict[str, np.ndarray]]:
        """Yield the arrays of a host's rows."""
        for numbers in sampling.numbers:
            yield {name: array[numbers] for name, array in self._arrays.items()}


def _random_caption(rng: np.random.Generator) -> str:
    """Draw a caption with the length distribution and vocabulary size of MSVD."""
    num_words = rng.choice(np.arange(1, len(LENGTHS) + 1), p=np.array(LENGTHS) / sum(LENGTHS))
    return ' '.join(f'word{i}' for i in rng.integers(VOCAB_SIZE - len(SPECIAL), size=num_words))


def like_trained(params: PyTree, model: CaptioningModel, features: Batch) -> PyTree:
    """Change parameters so that the deployed branch captions these clips like a trained network."""
    branch = model.config.decoder()
    name, layer = f'decoders_{branch}', f'decoder_{model.config.decoder_layers - 1}'
    params = params | {name: _sharpened(params[name], layer)}
    eos_D = _eos_vector(params, model, branch, features)
    embedding_VD = jnp.asarray(params[name]['embed']['embedding']).at[EOS].set(eos_D)
    return params | {name: params[name] | {'embed': {'embedding': embedding_VD}}}


def _sharpened(decoder, layer):
    """Multiply all logits by `_SHARPNESS`, through the scale of the last layer norm."""
    # The logits are products of the normalised state with the tied embedding, so its scale is
    # theirs.
    norm = decoder[layer]['norms_2']
    sharp = norm | {'scale': norm['scale'] * _SHARPNESS}
    return decoder | {layer: decoder[layer] | {'norms_2': sharp}}


def _eos_vector(params, model, branch, features):
    """Fit the embedding (D,) of EOS, so that captions end after various numbers of words.

    For each clip a length is drawn; ridge regression makes the product of the embedding with the
    decoder state grow from that position on.
    """
    num_clips = len(features['appearance'])
    rng, L = np.random.default_rng(0), model.max_words + 1
    length_B = rng.integers(_SHORTEST, _LONGEST + 1, num_clips)
    token_BKL = rng.integers(4, model.vocab_size, (num_clips, _CAPTIONS, L), np.int32)
    states = functools.partial(model.apply, method='states')
    hidden_MD = jax.jit(
        lambda params: states({'params': params}, features, token_BKL, False)[branch].hidden_MD
    )(params)
    wanted_BL = np.minimum(_SLOPE * (np.arange(L) - length_B[:, None]), _MOST)
    wanted_BKL = np.broadcast_to(wanted_BL[:, None], token_BKL.shape)
    # The embedding of EOS is also an input, but only after the caption has ended. Changing it
    # therefore does not change the states it was fitted on.
    x_PD = np.asarray(hidden_MD, np.float64)
    # Normal equations in float64: D is small, and the states are nearly collinear.
    square_DD = x_PD.T @ x_PD + _RIDGE * np.eye(model.config.width)
    return np.linalg.solve(square_DD, x_PD.T @ wanted_BKL.reshape(-1))
