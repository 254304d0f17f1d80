"""Score captions against references by the metrics of the captioning literature.

Every score is printed as papers print it: times 100, CIDEr included (whose raw scale ends at 10,
so that a good system passes 100).
"""

from collections.abc import Mapping, Sequence
from importlib import metadata

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from sacrebleu.metrics import BLEU

from stg_jax.errors import UserError
from stg_jax.evaluate import java

_NUM_NAMED = 3


def score(predictions: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> dict:
    """Score one caption per clip by BLEU-1..4, METEOR, ROUGE-L, CIDEr and sacreBLEU.

    The first seven are pycocoevalcap's on PTB tokens of both sides. sacreBLEU reads the captions
    as they are, with its own tokenizer, ignoring case; cite it with its signature.

    Args:
      predictions: clip id to its caption, which may be empty.
      references: clip id to its captions, any number from one, of the same clips.

    Returns:
      A JSON object: `metrics` (name to score in percent), `per_clip` (clip id to the same names
      without sacreBLEU), `signature` (of sacreBLEU), `versions`, `num_clips`, `num_references`.

    Raises:
      UserError: the clips differ, a clip has no reference, or Java does not run.
    """
    clips, hypotheses, grouped = _align(predictions, references)
    metrics, per_clip = _score_tokens(*_tokenise(hypotheses, grouped))
    metrics['sacreBLEU'], signature = _sacrebleu(hypotheses, grouped)
    return {
        'metrics': metrics,
        'per_clip': dict(zip(clips, per_clip, strict=True)),
        'signature': signature,
        'versions': _versions(),
        'num_clips': len(clips),
        'num_references': sum(map(len, grouped)),
    }


def cider(predictions: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> float:
    """Score by CIDEr times 100 on the words between spaces: no Java, quick enough for each epoch.

    Equals the CIDEr of `score` on captions that `stg_jax.data.text.normalise` left without
    punctuation, up to the few words that the PTB tokenizer splits ("cannot").

    Raises:
      UserError: the clips differ, or a clip has no reference.
    """
    _, hypotheses, grouped = _align(predictions, references)
    return 100 * float(_run(Cider(), hypotheses, grouped)[0])


def _align(
    predictions: Mapping[str, str], references: Mapping[str, Sequence[str]]
) -> tuple[list[str], list[str], list[list[str]]]:
    """Return clip ids, captions and references as lists in one order, that of the sorted ids."""
    _refuse(references.keys() - predictions.keys(), 'no prediction', 'decode the whole split')
    _refuse(predictions.keys() - references.keys(), 'no references', 'name the right split')
    empty = {clip for clip, captions in references.items() if not any(map(str.split, captions))}
    _refuse(empty, 'no references', 'leave them out of both files')
    if not references:
        raise UserError('there is no clip to score: predictions and references are both empty')
    clips = sorted(references)
    return clips, [predictions[clip] for clip in clips], [list(references[clip]) for clip in clips]


def _refuse(clips: set[str], lack: str, remedy: str) -> None:
    if clips:
        named = ', '.join(map(repr, sorted(clips)[:_NUM_NAMED]))
        more = f' and {len(clips) - _NUM_NAMED} more' if len(clips) > _NUM_NAMED else ''
        raise UserError(f'{lack} for clip {named}{more}: {remedy}')


def _tokenise(
    hypotheses: Sequence[str], grouped: Sequence[Sequence[str]]
) -> tuple[list[str], list[list[str]]]:
    """Tokenise both sides in one run, for starting Java costs more than its work."""
    flat = [caption for captions in grouped for caption in captions]
    tokens = iter(java.tokenise([*hypotheses, *flat]))
    return (
        [next(tokens) for _ in hypotheses],
        [[next(tokens) for _ in captions] for captions in grouped],
    )


def _score_tokens(
    hypotheses: Sequence[str], grouped: Sequence[Sequence[str]]
) -> tuple[dict[str, float], list[dict[str, float]]]:
    """Return the scores of the corpus and of each clip, by name, of tokenised captions."""
    corpus_bleu, clip_bleu = _run(Bleu(4), hypotheses, grouped, verbose=0)
    scores = {f'BLEU-{n + 1}': (corpus_bleu[n], clip_bleu[n]) for n in range(4)}
    scores['METEOR'] = java.meteor(hypotheses, grouped)
    scores['ROUGE-L'] = _run(Rouge(), hypotheses, grouped)
    scores['CIDEr'] = _run(Cider(), hypotheses, grouped)
    return (
        {name: 100 * float(corpus) for name, (corpus, _) in scores.items()},
        [
            {name: 100 * float(clips[i]) for name, (_, clips) in scores.items()}
            for i in range(len(hypotheses))
        ],
    )


def _run(
    scorer: Bleu | Cider | Rouge,
    hypotheses: Sequence[str],
    grouped: Sequence[Sequence[str]],
    **options,
):
    """Call a scorer of pycocoevalcap, which wants dicts of lists."""
    return scorer.compute_score(
        dict(enumerate(grouped)), {i: [text] for i, text in enumerate(hypotheses)}, **options
    )


def _sacrebleu(hypotheses: Sequence[str], grouped: Sequence[Sequence[str]]) -> tuple[float, str]:
    """Return sacreBLEU in percent and its signature (Post, 2018)."""
    metric = BLEU(lowercase=True)
    most = max(map(len, grouped))
    # sacreBLEU wants the k-th reference of every clip together, None where a clip has fewer.
    streams = [[refs[k] if k < len(refs) else None for refs in grouped] for k in range(most)]
    result = metric.corpus_score(list(hypotheses), streams)
    return result.score, str(metric.get_signature())


def _versions() -> dict[str, str]:
    return {
        'pycocoevalcap': metadata.version('pycocoevalcap'),
        'sacrebleu': metadata.version('sacrebleu'),
        'java': java.JAVA_VERSION,
        'tokenizer': java.TOKENIZER,
    }
