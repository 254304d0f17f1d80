"""Words <-> ids."""

import collections
import dataclasses
import functools
import os
from collections.abc import Iterable, Sequence

from etils import epath

from stg_jax import files
from stg_jax.errors import UserError

PAD, BOS, EOS, UNK = 0, 1, 2, 3
SPECIAL = ('<pad>', '<bos>', '<eos>', '<unk>')


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The words a model knows; a word's index in `words` is its id.

    Attributes:
      words: '<pad>', '<bos>', '<eos>', '<unk>', then the words, most frequent first.
    """

    words: tuple[str, ...]

    @classmethod
    def build(cls, captions: Iterable[str], min_count: int) -> 'Vocabulary':
        """Collect the words that normalised `captions` use at least `min_count` times.

        Raises:
          UserError: no word is left.
        """
        # Callers pass train captions only: no model could have seen words of the test.
        counts = collections.Counter(word for caption in captions for word in caption.split())
        words = [word for word, count in counts.items() if count >= min_count]
        if not words:
            raise UserError(
                f'no word occurs {min_count} times in the train captions: '
                'lower config.data.min_count or check the captions'
            )
        # Ties by spelling: the ids depend only on the captions, not on their order.
        return cls(SPECIAL + tuple(sorted(words, key=lambda word: (-counts[word], word))))

    def encode(self, caption: str, max_words: int) -> list[int]:
        """Encode the first `max_words` words as [BOS, ids, EOS]; unknown words are UNK."""
        words = caption.split()[:max_words]
        return [BOS, *(self._ids.get(word, UNK) for word in words), EOS]

    def decode(self, ids: Sequence[int]) -> str:
        """Join the words before the first EOS, without PAD and BOS."""
        words = []
        for i in map(int, ids):
            if i == EOS:
                break
            if i not in (PAD, BOS):
                words.append(self.words[i])
        return ' '.join(words)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `text` to a file."""
        files.write_text(path, self.text)

    @property
    def text(self) -> str:
        """One word a line, in the order of the ids."""
        return ''.join(f'{word}\n' for word in self.words)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> 'Vocabulary':
        """Read a file written by `save`.

        Raises:
          UserError: the file is missing, or is no list of different words after the special four.
        """
        try:
            words = tuple(epath.Path(path).read_text(encoding='utf-8').splitlines())
        except FileNotFoundError:
            raise UserError(f'{path} does not exist: it is written by launch/train.py') from None
        except UnicodeDecodeError as error:
            raise UserError(f'{path} is not a vocabulary: it is not UTF-8 text ({error})') from None
        if words[: len(SPECIAL)] != SPECIAL:
            raise UserError(f'{path} is not a vocabulary: it must begin with {", ".join(SPECIAL)}')
        for number, word in enumerate(words, 1):
            if word.split() != [word]:
                raise UserError(f'{path} line {number}: {word!r} is not one word')
        if len(set(words)) < len(words):
            word, count = collections.Counter(words).most_common(1)[0]
            raise UserError(f'{path} is not a vocabulary: {word!r} occurs {count} times')
        return cls(words)

    def __len__(self) -> int:
        return len(self.words)

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        # Of the special words only UNK may occur in a caption: `<pad>` in one would be read as the
        # end of what counts, and `<eos>` would end it.
        return {word: i for i, word in enumerate(self.words) if i >= UNK}
