"""The captions of a data folder, which a vocabulary is built from without reading features."""

import copy
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from etils import epath

from stg_jax.data.manifest import Manifest
from stg_jax.data.vocab import PAD, Vocabulary
from stg_jax.errors import UserError


class Captions:
    """All captions of a split, tokenised once.

    They come from the captions file and not from the records: words take longer to look up than
    features to read.
    """

    def __init__(self, captions: Mapping[str, Sequence[str]], vocab: Vocabulary, max_words: int):
        self._clips = {clip_id: number for number, clip_id in enumerate(captions)}
        self._counts = np.array([len(texts) for texts in captions.values()], np.int64)
        self._firsts = np.cumsum(self._counts) - self._counts
        # One flat table of all captions: a batch is one gather, whatever captions its clips show.
        # The last row is all PAD; a clip with fewer than K captions shows it in the slots left.
        self._tokens = np.full((self._counts.sum() + 1, max_words + 2), PAD, np.int32)
        texts = (text for texts in captions.values() for text in texts)
        for row, text in zip(self._tokens, texts, strict=False):
            ids = vocab.encode(text, max_words)
            row[: len(ids)] = ids
        self._weights: np.ndarray | None = None

    def weighted(self, weights: Mapping[str, Iterable[float]]) -> 'Captions':
        """Return the same captions with a weight in the loss for each caption of every clip."""
        new = copy.copy(self)
        # The last row is that of slots without a caption.
        new._weights = np.array(
            [*(w for clip in self._clips for w in weights[clip]), 0], np.float32
        )
        return new

    def first(self, num_shown: int) -> np.ndarray:
        """Schedule one pass that shows the first `num_shown` captions of every clip."""
        shown = np.arange(num_shown) % np.maximum(self._counts, 1)[:, None]
        return self._schedule(shown, num_shown)

    def shuffled(self, num_shown: int, num_passes: int, seed: int) -> np.ndarray:
        """Schedule an epoch that shows, in every pass, the next captions of a random order.

        No caption of a clip comes back before all were shown.

        Returns:
          (clips, passes, K) int64, rows of the table of captions.
        """
        # A clip without captions counts as one with one, which `_schedule` then replaces by PAD.
        sizes = np.maximum(self._counts, 1)[:, None]
        # Sorting random numbers permutes the captions of all clips at once. The draw depends only
        # on the seed and the number of captions, so that a resumed run shows the same ones.
        drawn = np.random.default_rng(seed).random((len(sizes), sizes.max()))
        # Captions that a clip does not have come last, where no slot reaches.
        drawn[np.arange(sizes.max()) >= sizes] = np.inf
        slots = np.arange(num_passes * num_shown) % sizes
        return self._schedule(np.take_along_axis(drawn.argsort(1), slots, axis=1), num_shown)

    def shown(
        self, schedule: np.ndarray, ids: Iterable[str], passes: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Gather the captions that clips show in a pass.

        Returns:
          'tokens' (B, K, L) int32, all PAD where a clip has too few captions, and 'caption_weight'
          (B, K) float32 if captions are weighted.

        Raises:
          UserError: the captions file has no such clip.
        """
        try:
            clips = list(map(self._clips.__getitem__, ids))
        except KeyError as error:
            raise UserError(
                f'the shards hold clip {error}, the captions file does not: prepare the data again'
            ) from None
        row_BK = schedule[clips, passes]
        shown = {'tokens': self._tokens[row_BK]}
        return shown if self._weights is None else shown | {'caption_weight': self._weights[row_BK]}

    def num_targets(
        self, schedule: np.ndarray, numbers: np.ndarray, passes: np.ndarray
    ) -> np.ndarray:
        """Count the tokens to predict for clips in a pass, words and EOS: (B,) int64.

        Unlike `shown` it takes the numbers of the clips in the captions file.
        """
        # All but BOS is predicted, so that every other token that is no PAD counts.
        targets = (self._tokens[:, 1:] != PAD).sum(1)
        return targets[schedule[numbers, passes]].sum(-1)

    def _schedule(self, numbers: np.ndarray, num_shown: int) -> np.ndarray:
        """Turn (clips, passes * K) numbers of a clip's captions into rows of the table."""
        rows = (self._firsts[:, None] + numbers).reshape(len(numbers), -1, num_shown)
        return np.where(np.arange(num_shown) < self._counts[:, None, None], rows, -1)


def append_captions(
    folder: str | os.PathLike[str], split: str, clip_id: str, captions: Sequence[str]
) -> None:
    """Add the captions of one more clip to those of a split."""
    with _path(folder, split).open('a', encoding='utf-8') as lines:
        lines.write(json.dumps([clip_id, captions], ensure_ascii=False) + '\n')


def read_captions(data_dir: str | os.PathLike[str], split: str) -> dict[str, list[str]]:
    """Read the captions of every clip of a split, in the order of the shards.

    The shards themselves are not opened.

    Raises:
      UserError: the folder, the split or its captions file is missing or broken.
    """
    folder = open_folder(data_dir)
    path, splits = _path(folder, split), Manifest.load(folder).splits
    if split not in splits:
        raise no_split(folder, split, list(splits))
    try:
        captions = dict(map(_parse_line, path.read_text(encoding='utf-8').splitlines()))
    except FileNotFoundError:
        raise UserError(f'{path} is missing: prepare the data again') from None
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f'{path} is damaged: prepare the data again ({error})') from None
    # A line lost or doubled would shift the captions of a split that is read without its shards.
    if len(captions) != splits[split]['clips']:
        raise UserError(
            f'{path} names {len(captions)} clips, but the manifest {splits[split]["clips"]}: '
            'prepare the data again'
        )
    return captions


def _parse_line(line: str) -> tuple[str, list[str]]:
    clip_id, texts = json.loads(line)
    # A string in place of the list would be read as captions of one letter each.
    if not (isinstance(clip_id, str) and isinstance(texts, list)):
        raise ValueError(f'expected a clip and a list of captions, found {line[:60]}')
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f'a caption of {clip_id} is not text')
    return clip_id, texts


def open_folder(data_dir: str | os.PathLike[str]) -> epath.Path:
    """Check that a data folder exists, on a disk or in a bucket, and return its path.

    Raises:
      UserError: there is none.
    """
    folder = epath.Path(data_dir)
    if not data_dir or not folder.is_dir():
        raise UserError(
            f'the data folder {str(data_dir)!r} does not exist, seen from {Path.cwd()}: start from '
            'where it does, or write one with launch/prepare.py and train with '
            '--config.data.dir=FOLDER'
        )
    return folder


def no_split(folder: epath.Path, name: str, known: Sequence[str]) -> UserError:
    """Build the UserError for an unknown split."""
    return UserError(f'{folder} has no split {name!r}: it holds {", ".join(known)}')


def _path(folder: str | os.PathLike[str], split: str) -> epath.Path:
    return epath.Path(folder) / f'captions-{split}.jsonl'
