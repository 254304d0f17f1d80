"""The captions of a data folder, which a vocabulary is built from without reading features."""

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
        captions = {**captions, '': ()}  # a clip that was lost shows nothing
        self._clips = {clip_id: number for number, clip_id in enumerate(captions)}
        self._counts = np.array([len(texts) for texts in captions.values()], np.int64)
        self._firsts = np.cumsum(self._counts) - self._counts
        # One row more than there are captions: what a clip with too few of them shows.
        self._tokens = np.full((self._counts.sum() + 1, max_words + 2), PAD, np.int32)
        texts = (text for texts in captions.values() for text in texts)
        for row, text in zip(self._tokens, texts, strict=False):
            ids = vocab.encode(text, max_words)
            row[: len(ids)] = ids

    def first(self, num_shown: int) -> np.ndarray:
        """Return the first `num_shown` captions of every clip as the schedule of one pass."""
        shown = np.arange(num_shown) % np.maximum(self._counts, 1)[:, None]
        return self._schedule(shown, num_shown)

    def shuffled(self, num_shown: int, num_passes: int, seed: int) -> np.ndarray:
        """Return the schedule of an epoch: in every pass the next captions of a random order.

        No caption of a clip comes back before all were shown.

        Returns:
          (clips, passes, K) int64, rows of the table of captions.
        """
        sizes = np.maximum(self._counts, 1)[:, None]
        drawn = np.random.default_rng(seed).random((len(sizes), sizes.max()))
        # Captions that a clip does not have come last, where no slot reaches.
        drawn[np.arange(sizes.max()) >= sizes] = np.inf
        slots = np.arange(num_passes * num_shown) % sizes
        return self._schedule(np.take_along_axis(drawn.argsort(1), slots, axis=1), num_shown)

    def tokens(self, schedule: np.ndarray, ids: Iterable[str], passes: np.ndarray) -> np.ndarray:
        """Return what clips show in a pass: (B, K, L) int32, PAD where there are too few captions.

        Raises:
          UserError: the captions file has no such clip.
        """
        try:
            clips = list(map(self._clips.__getitem__, ids))
        except KeyError as error:
            raise UserError(
                f'the shards hold clip {error}, the captions file does not: prepare the data again'
            ) from None
        return self._tokens[schedule[clips, passes]]

    def num_targets(
        self, schedule: np.ndarray, numbers: np.ndarray, passes: np.ndarray
    ) -> np.ndarray:
        """Return how many words and EOS are to be predicted of clips in a pass: (B,) int64.

        Unlike `tokens` it takes the numbers of the clips in the captions file.
        """
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
    """Return the captions of every clip of a split, in the order of the shards.

    The shards themselves are not looked at.

    Raises:
      UserError: the folder, the split or its captions file is missing or broken.
    """
    folder = open_folder(data_dir)
    path, splits = _path(folder, split), Manifest.load(folder).splits
    if split not in splits:
        raise no_split(folder, split, list(splits))
    try:
        captions = dict(map(json.loads, path.read_text(encoding='utf-8').splitlines()))
    except FileNotFoundError:
        raise UserError(f'{path} is missing: prepare the data again') from None
    except (TypeError, ValueError) as error:
        raise UserError(f'{path} is damaged: prepare the data again ({error})') from None
    if len(captions) != splits[split]['clips']:
        raise UserError(
            f'{path} names {len(captions)} clips, but the manifest {splits[split]["clips"]}: '
            'prepare the data again'
        )
    return captions


def open_folder(data_dir: str | os.PathLike[str]) -> epath.Path:
    """Return the path of a data folder.

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
