r"""Score the captions of any system against references.

    python launch/score.py --predictions captions.json --references test_videodatainfo.json
    python launch/score.py --predictions captions.tsv --references msvd/annotations --split test \
        --per_clip clips.csv --out scores.json
    python launch/score.py --predictions captions.jsonl --references captions_val2014.json \
        --metrics cider,spice

Predictions are COCO results JSON, {clip: caption} JSON (either may be inside {"predictions": ...}),
JSONL, CSV with a header, or lines of clip<TAB>caption. References are annotations of a data set
(MSVD, MSR-VTT, VATEX, one's own; a file, a zip or a folder), COCO annotations, a data folder of
prepare.py, or any layout of predictions with several captions of a clip. Both must be of the same
clips.

BLEU, METEOR, ROUGE-L, CIDEr (CIDEr-D) and SPICE are pycocoevalcap's on PTB tokens, all times 100;
sacreBLEU is printed with its signature. docs/scores.md lists the pitfalls.
"""

from absl import flags

from stg_jax.cli import app
from stg_jax.files import check_writable, write_json, write_text

_PREDICTIONS = flags.DEFINE_string('predictions', None, 'File with one caption for each clip.')
_REFERENCES = flags.DEFINE_string('references', None, 'File or folder of annotations.')
_SPLIT = flags.DEFINE_string('split', None, 'Split of the references; by default all their clips.')
_METRICS = flags.DEFINE_list(
    'metrics',
    None,
    'Some of bleu, meteor, rouge, cider, sacrebleu, spice; by default not spice.',
)
_TRAIN = flags.DEFINE_string(
    'train', None, 'Annotations of what the system was trained on, to count novel captions.'
)
_PER_CLIP = flags.DEFINE_string('per_clip', None, 'CSV file to write, one row for each clip.')
_OUT = flags.DEFINE_string('out', None, 'JSON file to write, with all scores and versions.')


def main(args: list[str]) -> None:
    """Score and print."""
    app.no_arguments(args)
    predictions_path, references_path = app.required(_PREDICTIONS), app.required(_REFERENCES)
    from stg_jax.evaluate.caption_files import read_predictions
    from stg_jax.evaluate.clip_table import clip_table
    from stg_jax.evaluate.metrics import METRICS, made_with, score
    from stg_jax.evaluate.reference_files import read_references, rename_clips

    for path in filter(None, (_PER_CLIP.value, _OUT.value)):
        check_writable(path)
    references = read_references(references_path, _SPLIT.value)
    predictions, notes = rename_clips(read_predictions(predictions_path), references)
    result = score(
        predictions,
        references.captions,
        metrics=[name.lower() for name in _METRICS.value or METRICS],
        train_captions=_train_captions() or references.train_captions,
    )
    result['warnings'] += [*references.notes, *notes]
    result |= {'predictions': predictions_path, 'references': references_path}
    for warning in result['warnings']:
        app.warn(f'{warning}')
    print(f'{made_with(result)}\n')
    for name, value in (result['metrics'] | result['captions']).items():
        print(f'{name:<18}{value:9}' if isinstance(value, int) else f'{name:<18}{value:9.2f}')
    if 'novel' not in result['captions']:
        print('(novel, seen in training: name what the system was trained on, --train ANNOTATIONS)')
    if _PER_CLIP.value:
        write_text(_PER_CLIP.value, clip_table(result, predictions))
    if _OUT.value:
        write_json(_OUT.value, result)


def _train_captions() -> list[str] | None:
    if _TRAIN.value is None:
        return None
    from stg_jax.evaluate.reference_files import TRAIN, read_references

    references = read_references(_TRAIN.value)
    splits = references.annotations.splits if references.annotations else {}
    captions = splits.get(TRAIN) or references.captions
    return [text for texts in captions.values() for text in texts]


def run() -> None:
    """Run the command line of this process."""
    app.run(main)
