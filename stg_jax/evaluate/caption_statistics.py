"""Statistics of captions without references: length, vocabulary, repetition, novelty."""

from collections.abc import Iterable, Sequence

from stg_jax.data.text import normalise

MAX_ORDER = 4


def caption_statistics(
    captions: Sequence[str], train_captions: Iterable[str] | None = None
) -> dict[str, float]:
    """Compute statistics of captions, on their words as `stg_jax.data.text.normalise` gives them.

    Args:
      captions: one for each clip of a split.
      train_captions: the captions that the system was trained on, if known.

    Returns:
      `mean_length` in words; the numbers of `empty` captions and of words in the `vocabulary`;
      `distinct-1` to `distinct-4` (distinct n-grams over all n-grams; Li et al., 2016) and
      `different` (distinct captions over all captions) in percent; with train captions also
      `novel` and `seen in training`, in percent.
    """
    texts = [normalise(caption) for caption in captions]
    words = [text.split() for text in texts]
    found = {
        'mean_length': sum(map(len, words)) / len(words),
        'empty': sum(not text for text in texts),
        'vocabulary': len({word for caption in words for word in caption}),
    }
    found |= {f'distinct-{n}': _distinct(words, n) for n in range(1, MAX_ORDER + 1)}
    found['different'] = 100 * len(set(texts)) / len(texts)
    # A captioner that only repeats training captions can score well: novelty shows it.
    if train_captions is not None:
        seen = set(map(normalise, train_captions))
        share = 100 * sum(text in seen for text in texts) / len(texts)
        found |= {'novel': 100 - share, 'seen in training': share}
    return found


def _distinct(words: Sequence[Sequence[str]], n: int) -> float:
    grams = [tuple(caption[i : i + n]) for caption in words for i in range(len(caption) - n + 1)]
    return 100 * len(set(grams)) / len(grams) if grams else 0.0
