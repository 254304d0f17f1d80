"""Whether what an explanation ranks first is what the network needs: deletion and insertion.

Frames or objects are taken away (or added to nothing) in the order of their relevance for a word,
and the probability of the word is followed; after Petsiuk et al. (2018). A faithful order makes it
fall faster (rise faster) than a random one.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

STEPS = 10  # parts in which the frames or objects of a clip are taken away

# Maps versions of a clip, (P, ...) bool, to the log-probability of each word, (P, L).
LogPFn = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Curves:
    """Probability of a word, one row for each of L words, when a growing share S is affected.

    Attributes:
      share_S: of frames or objects, from 0 to 1.
      deletion_LS: taken away, the most relevant first.
      insertion_LS: shown alone, the most relevant first.
      random_LS: taken away in random order.
    """

    share_S: np.ndarray
    deletion_LS: np.ndarray
    insertion_LS: np.ndarray
    random_LS: np.ndarray


def follow(
    log_p_fn: LogPFn, relevance_L: np.ndarray, present: np.ndarray, rng: np.random.Generator
) -> Curves:
    """Return the curves of the words of one caption.

    Args:
      log_p_fn: see `LogPFn`.
      relevance_L: (L, ...) float, relevance of each frame (T,) or object (T, N) for each word.
      present: (...) bool, the frames or objects that there are.
      rng: draws the random order of each word.
    """
    share_S = np.linspace(0, 1, STEPS + 1)
    relevance_LP = relevance_L[:, present]
    chance_LP = rng.random(relevance_LP.shape)
    first_LSP = _first(relevance_LP, share_S)
    versions = np.stack([~first_LSP, first_LSP, ~_first(chance_LP, share_S)])
    shown = np.zeros((*versions.shape[:-1], *present.shape), bool)
    shown[..., present] = versions
    log_p_L = log_p_fn(shown.reshape(-1, *present.shape))
    num_words = len(relevance_LP)
    of_all_words = np.exp(log_p_L).reshape(3, num_words, len(share_S), -1)
    own = of_all_words[:, np.arange(num_words), :, np.arange(num_words)]
    deletion_LS, insertion_LS, random_LS = np.moveaxis(own, 1, 0)
    return Curves(share_S, deletion_LS, insertion_LS, random_LS)


def summarise(curves: Sequence[Curves]) -> dict[str, list[float] | float]:
    """Return the mean curves over all words, and the area under each (the mean over shares)."""
    mean = {
        name: np.concatenate([getattr(each, f'{name}_LS') for each in curves]).mean(0)
        for name in ('deletion', 'insertion', 'random')
    }
    # Half shown at random is half taken away at random.
    mean = {
        'deletion': mean['deletion'],
        'deletion_random': mean['random'],
        'insertion': mean['insertion'],
        'insertion_random': mean['random'][::-1],
    }
    share_S = curves[0].share_S
    area = {f'{name}_area': float(np.trapezoid(y_S, share_S)) for name, y_S in mean.items()}
    num_words = sum(len(each.deletion_LS) for each in curves)
    lists = {name: np.round(y_S.astype(float), 4).tolist() for name, y_S in mean.items()}
    return {'words': num_words, 'share': share_S.tolist()} | lists | area


def _first(value_LP: np.ndarray, share_S: np.ndarray) -> np.ndarray:
    """Return (L, S, P), True at the share of items with the highest values."""
    rank_LP = (-value_LP).argsort(-1, kind='stable').argsort(-1)
    return rank_LP[:, None] < np.round(share_S * value_LP.shape[-1])[:, None]
