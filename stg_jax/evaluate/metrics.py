"""Score captions against references by the metrics of the captioning literature.

All scores are times 100, as papers print them. That includes CIDEr, whose raw scale ends at 10, so
a good system can exceed 100. pycocoevalcap's CIDEr is CIDEr-D.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from importlib import metadata
from typing import Any

from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from sacrebleu.metrics.bleu import BLEU

from stg_jax.cli.signals import exit_on_sigterm
from stg_jax.data.text import normalise
from stg_jax.errors import UserError
from stg_jax.evaluate import java
from stg_jax.evaluate.java import spice_scores

_NUM_NAMED = 3
MAX_ORDER = 4
METRICS = ('bleu', 'meteor', 'rouge', 'cider', 'sacrebleu')
ON_REQUEST = ('spice',)
WITHOUT_JAVA = 'words of stg_jax.data.text.normalise'
Scores = dict[str, tuple[Any, Any]]  # of the corpus and of each clip: floats, or NumPy scalars


def check_references(references: Mapping[str, Sequence[str]]) -> None:
    """Check that there are clips, and that each has a reference that is not blank.

    Raises:
      UserError: there are none, or a clip has none.
    """
    if not references:
        raise UserError('no clips to score: the references are empty')
    empty = {clip for clip, captions in references.items() if not any(map(str.split, captions))}
    _refuse(empty, 'no references', 'leave them out of both files')


def in_order_of(clips: Sequence[str], predictions: Mapping[str, str]) -> list[str]:
    """List the captions of clips in the order of the clips.

    Raises:
      UserError: a clip has no caption, or a caption is of another clip.
    """
    # A score of part of a split is not comparable with anything, so nothing is dropped silently.
    known = frozenset(clips)
    if predictions and not known & predictions.keys():
        raise UserError(
            f'the predictions are of clips like {min(predictions)!r}, the references of clips like '
            f'{min(known)!r}: both must call the clips alike'
        )
    _refuse(known - predictions.keys(), 'no prediction', 'caption the whole split')
    _refuse(predictions.keys() - known, 'no references', 'name the right split')
    return [predictions[clip] for clip in clips]


def align(
    predictions: Mapping[str, str], references: Mapping[str, Sequence[str]]
) -> tuple[list[str], list[str], list[list[str]]]:
    """List clip ids, captions and references in one order, that of the sorted ids.

    Raises:
      UserError: the clips differ, or one has no reference.
    """
    check_references(references)
    clips = sorted(references)
    return clips, in_order_of(clips, predictions), [list(references[clip]) for clip in clips]


def _refuse(clips: Collection[str], lack: str, remedy: str) -> None:
    # A few names show the pattern; thousands would hide the sentence.
    if clips:
        named = ', '.join(map(repr, sorted(clips)[:_NUM_NAMED]))
        more = f' and {len(clips) - _NUM_NAMED} more' if len(clips) > _NUM_NAMED else ''
        raise UserError(f'{lack} for clip {named}{more}: {remedy}')


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


def score(
    predictions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    *,
    metrics: Collection[str] = METRICS,
    train_captions: Iterable[str] | None = None,
) -> dict:
    """Score one caption per clip by BLEU-1..4, METEOR, ROUGE-L, CIDEr, SPICE and sacreBLEU.

    All but the last are pycocoevalcap's, on PTB tokens of captions and references. sacreBLEU reads
    the captions as they are, with its own tokenizer, ignoring case; cite it with its signature. A
    metric whose program does not run is left out with a warning. Without Java the tokens are the
    words of `normalise`, which gives other scores.

    Args:
      predictions: clip id to its caption, which may be empty.
      references: the same clip ids to one or more captions.
      metrics: some of `METRICS` and 'spice'.
      train_captions: the captions that the system was trained on, to count novel ones.

    Returns:
      A JSON object: `metrics` (name to score in percent), `per_clip` (clip id to the same names
      without sacreBLEU), `counts` ('BLEU' and 'METEOR' to clip id to the counts from which the
      score of any set of clips follows, see `evaluate.summable`), `captions` (see
      `caption_statistics`), `signature` (of sacreBLEU), `versions`, `num_clips`, `num_references`,
      `warnings`.

    Raises:
      UserError: the clips differ, a clip has no reference, or a metric is unknown.
    """
    unknown = set(metrics) - {*METRICS, *ON_REQUEST}
    if unknown:
        known = ', '.join((*METRICS, *ON_REQUEST))
        raise UserError(f'{min(unknown)!r} is no metric: choose from {known}')
    # In sorted order, so that the per-clip scores of two systems line up.
    clips, hypotheses, grouped = align(predictions, references)
    warnings = []
    with exit_on_sigterm():  # so that no Java process is left running
        tokens, tokenizer = _tokenise(hypotheses, grouped, warnings)
        if not any(map(any, tokens[1])):
            raise UserError('no reference holds a word, only punctuation: check the references')
        scores, counts = _score_tokens(*tokens, clips, metrics, warnings)
    result = {
        'metrics': {name: 100 * float(corpus) for name, (corpus, _) in scores.items()},
        'per_clip': {
            clip: {name: 100 * float(values[i]) for name, (_, values) in scores.items()}
            for i, clip in enumerate(clips)
        },
        'counts': {name: dict(zip(clips, rows, strict=True)) for name, rows in counts.items()},
        'captions': caption_statistics(hypotheses, train_captions),
        'versions': _versions(tokenizer, scores, metrics),
        'num_clips': len(clips),
        'num_references': sum(map(len, grouped)),
        'warnings': warnings,
    }
    if 'sacrebleu' in metrics:
        result['metrics']['sacreBLEU'], result['signature'] = _sacrebleu(hypotheses, grouped)
    return result


def made_with(result: Mapping) -> str:
    """Name in one line the data and programs behind a result of `score`."""
    versions = result['versions']
    programs = [
        f'{name} {version}'
        for name, version in (
            ('METEOR', versions.get('meteor')),
            ('Java', versions.get('java')),
            ('sacreBLEU', result.get('signature')),
        )
        if version
    ]
    return ', '.join(
        [
            f'{result["num_clips"]} clips',
            f'{result["num_references"]} references',
            f'tokens: {versions["tokenizer"]}',
            f'pycocoevalcap {versions["pycocoevalcap"]} (CIDEr is CIDEr-D)',
            *programs,
        ]
    )


def _tokenise(
    hypotheses: Sequence[str], grouped: Sequence[Sequence[str]], warnings: list[str]
) -> tuple[tuple[list[str], list[list[str]]], str]:
    """Tokenize captions and references in one run: to start Java costs more than its work."""
    flat = [*hypotheses, *(caption for captions in grouped for caption in captions)]
    try:
        tokens, tokenizer = iter(java.tokenise(flat)), java.TOKENIZER
    except UserError as error:
        tokens, tokenizer = map(normalise, flat), WITHOUT_JAVA
        warnings.append(f'the scores are on {tokenizer}, not comparable to published ones: {error}')
    return (
        [next(tokens) for _ in hypotheses],
        [[next(tokens) for _ in captions] for captions in grouped],
    ), tokenizer


def _score_tokens(
    hypotheses: Sequence[str],
    grouped: Sequence[Sequence[str]],
    clips: Sequence[str],
    metrics: Collection[str],
    warnings: list[str],
) -> tuple[Scores, dict[str, list[str]]]:
    """Compute the scores of the corpus and of each clip, and the counts of each clip, by name."""
    scores, counts = {}, {}
    if 'bleu' in metrics:
        scores, counts['BLEU'] = _bleu(hypotheses, grouped)
    for metric, name, scorer in (
        ('meteor', 'METEOR', java.meteor),
        ('rouge', 'ROUGE-L', _scorer_of(Rouge)),
        ('cider', 'CIDEr', _scorer_of(Cider)),
        ('spice', 'SPICE', spice_scores),
    ):
        if metric in metrics:
            try:
                corpus, per_clip, *rows = scorer(hypotheses, grouped)
            except UserError as error:
                # The other metrics are still worth printing, without the one whose program failed.
                of = (
                    f'clip {clips[error.clip]!r}: '
                    if isinstance(error, java.LongCaptionError)
                    else ''
                )
                warnings.append(f'{name} is left out: {of}{error}')
                continue
            scores[name] = corpus, per_clip
            if rows:
                (counts[name],) = rows
    return scores, counts


def _bleu(hypotheses: Sequence[str], grouped: Sequence[Sequence[str]]) -> tuple[Scores, list[str]]:
    # The scorer itself and not pycocoevalcap's Bleu, which hides the counts of each clip.
    scorer = BleuScorer(n=4)
    for hypothesis, references in zip(hypotheses, grouped, strict=True):
        scorer += (hypothesis, references)
    corpus, per_clip = scorer.compute_score(option='closest')
    rows = [
        [*clip['correct'], *clip['guess'], clip['testlen'], _closest(clip)] for clip in scorer.ctest
    ]
    scores = {f'BLEU-{n + 1}': (corpus[n], per_clip[n]) for n in range(4)}
    return scores, [' '.join(map(str, row)) for row in rows]


def _closest(clip: Mapping) -> int:
    # Of two references equally close in length pycocoevalcap takes the shorter.
    return min((abs(length - clip['testlen']), length) for length in clip['reflen'])[1]


def _scorer_of(kind: type[Cider] | type[Rouge]):
    """Adapt a scorer of pycocoevalcap, which wants dicts of lists, to lists."""

    def scorer(hypotheses: Sequence[str], grouped: Sequence[Sequence[str]]):
        return kind().compute_score(
            dict(enumerate(grouped)), {i: [text] for i, text in enumerate(hypotheses)}
        )

    return scorer


def _sacrebleu(hypotheses: Sequence[str], grouped: Sequence[Sequence[str]]) -> tuple[float, str]:
    """Compute sacreBLEU in percent, and its signature (Post, 2018)."""
    # Ignoring case, as the PTB tokens do: captioners write lower case.
    metric = BLEU(lowercase=True)
    most = max(map(len, grouped))
    # sacreBLEU takes the k-th references of all clips together, None where a clip has fewer.
    streams: Any = [[refs[k] if k < len(refs) else None for refs in grouped] for k in range(most)]
    result = metric.corpus_score(list(hypotheses), streams)
    return result.score, str(metric.get_signature())


def _versions(tokenizer: str, scores: Collection[str], metrics: Collection[str]) -> dict[str, str]:
    """List the versions of the programs that ran, and of no other."""
    versions = {'tokenizer': tokenizer, 'pycocoevalcap': metadata.version('pycocoevalcap')}
    if 'sacrebleu' in metrics:
        versions['sacrebleu'] = metadata.version('sacrebleu')
    if 'METEOR' in scores:
        versions['meteor'] = java.METEOR_VERSION
    if tokenizer == java.TOKENIZER or {'METEOR', 'SPICE'} & set(scores):
        versions['java'] = str(java.JAVA_VERSION)
    return versions
