"""The README.md of an exported model: data, scores with intervals, protocol, limits, license.

It begins with the metadata that the Hugging Face Hub reads, in YAML.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax

import stg_jax
from stg_jax.data.manifest import Manifest
from stg_jax.data.vocab import SPECIAL
from stg_jax.decode.captioner import Captioner
from stg_jax.errors import UserError
from stg_jax.evaluate.compare.bootstrap import CONFIDENCE, intervals
from stg_jax.evaluate.compare.systems import System, load_system
from stg_jax.evaluate.metrics import made_with
from stg_jax.run.folder import RunFolder

PAPER = 'https://arxiv.org/abs/2003.13942'
UNKNOWN = 'unknown'  # the hub's identifier of a license that is not stated
_SHOWN = ('BLEU-4', 'METEOR', 'ROUGE-L', 'CIDEr')
_ROUNDS = 2_000  # samples of the bootstrap


def model_card(
    captioner: Captioner, manifest: Manifest, name: str, *, license: str | None, average: int
) -> str:
    """Write the card of a model.

    Args:
      captioner: the run, with the parameters that are exported.
      manifest: the manifest that is exported.
      name: the name of the model.
      license: identifier of the license of the weights; None if it is not stated.
      average: number of checkpoints that the captioner averages.
    """
    systems = find_scores(captioner.run, captioner.step, average)
    sections = [
        _metadata(name, manifest, systems, license),
        f'# {name}\n\nA video captioning model, trained with stg_jax {stg_jax.__version__}: '
        f'spatio-temporal object graphs with knowledge distillation ([Pan et al.]({PAPER})).',
        f'## Use\n\n```python\nimport stg_jax\n\ncaptioner = stg_jax.load({name!r})\n'
        "caption = captioner.caption('my.mp4')\ncaptions = captioner(features)\n```\n\n"
        "`stg_jax.load('hf://USER/NAME')` downloads it from the hub.",
        f'## Model\n\n{_table(_model_rows(captioner))}',
        f'## Training data\n\n{_table(_data_rows(manifest))}',
        f'## Features\n\n{_table(_feature_rows(manifest))}\n{_missing_files(manifest)}',
        f'## Scores\n\n{_scores(systems, captioner)}',
        f'## Limits\n\n{_limits(captioner)}',
        f'## License\n\n{_license(license)}',
    ]
    return '\n\n'.join(section.strip() for section in sections) + '\n'


def find_scores(run: RunFolder, step: int, average: int) -> list[System]:
    """Read the evaluations of one run with these parameters; those of test come first."""
    folder, found = run.evaluation(''), []
    for path in sorted(folder.glob('*/scores.json')) if folder.is_dir() else ():
        try:
            system = load_system(str(path), path.parent.name)
        except UserError:
            continue  # written by an older version, or damaged: the others still count
        (result,) = system.results
        is_one_run = len(result.get('checkpoints', ())) == 1  # not an ensemble
        if is_one_run and (result['checkpoint_step'], result['average']) == (step, average):
            found.append(system)
    return sorted(found, key=lambda system: system.results[0]['split'] != 'test')


def _metadata(name: str, manifest: Manifest, systems: Sequence[System], license: str | None) -> str:
    # JSON values are YAML, too.
    lines = [
        '---',
        f'license: {json.dumps(license or UNKNOWN)}',
        'library_name: stg_jax',
        'pipeline_tag: video-text-to-text',
        'tags: ["video-captioning", "stg_jax", "jax", "flax"]',
    ]
    results = [_result(manifest, each) for each in systems if each.results[0]['split'] == 'test']
    if results:
        lines.append(f'model-index: {json.dumps([{"name": name, "results": results}])}')
    return '\n'.join([*lines, '---'])


def _result(manifest: Manifest, system: System) -> dict[str, Any]:
    (result,) = system.results
    metrics = [
        {'type': metric.lower(), 'name': metric, 'value': round(value, 2)}
        for metric, value in result['metrics'].items()
    ]
    data = {'type': manifest.data_set, 'name': manifest.data_set, 'split': result['split']}
    task = {'type': 'video-text-to-text', 'name': 'Video captioning'}
    return {'task': task, 'dataset': data, 'metrics': metrics}


def _model_rows(captioner: Captioner) -> Iterator[tuple[str, Any]]:
    run = captioner.run
    model = run.config.model
    parameters = sum(x.size for x in jax.tree.leaves(captioner.params))
    yield 'parameters', f'{parameters / 1e6:.1f} M, float32, optimizer step {captioner.step}'
    yield 'branches', f'{", ".join(model.decoders)}; `{model.decoder()}` writes captions by default'
    yield (
        'network',
        f'width {model.width}, {model.encoder_layers} encoder and {model.decoder_layers} decoder '
        f'layers, {model.graph_layers} graph layers ({model.graph})',
    )
    yield 'vocabulary', f'{len(run.vocab) - len(SPECIAL)} words'
    yield 'captions', f'at most {run.config.data.max_words} words'
    decode = run.config.decode
    yield 'search', f'beam {decode.beam_size}, length penalty {decode.length_penalty}'


def _data_rows(manifest: Manifest) -> Iterator[tuple[str, Any]]:
    yield 'data set', manifest.data_set
    for split, counts in manifest.splits.items():
        yield split, f'{counts["clips"]} clips with {counts["captions"]} captions'


def _feature_rows(manifest: Manifest) -> Iterator[tuple[str, Any]]:
    yield 'frames', f'{manifest.frames} of each clip'
    yield 'objects', f'at most {manifest.objects} of each frame'
    for kind in manifest.kinds:
        yield f'{kind} features', f'{manifest.widths[kind]} numbers'
    for key, value in manifest.extractor.items():
        if key != 'digests':
            yield f'extractor: {key}', f'`{value}`'


def _missing_files(manifest: Manifest) -> str:
    digests = manifest.extractor.get('digests', {})
    if not digests:
        return ''
    names = '\n'.join(f'- `{name}`, SHA-256 of its files `{sha}`' for name, sha in digests.items())
    return (
        'To caption videos, the extractor needs these model files. They are in the exported '
        'folder, but not on the hub: put them there, or below the folder that you work in.\n\n'
        + names
    )


def _scores(systems: Sequence[System], captioner: Captioner) -> str:
    if not systems:
        return 'Not evaluated with these parameters.'
    rows: list[tuple[str, ...]] = [('split', 'branch', 'beam', 'clips', *_SHOWN)]
    for system in systems:
        (result,) = system.results
        found = intervals(system, rounds=_ROUNDS, seed=0)
        scores = [_score(result['metrics'], found, metric) for metric in _SHOWN]
        how = result['split'], result['branch'], result['beam_size'], result['num_clips']
        rows.append((*map(str, how), *scores))
    (first,) = systems[0].results
    looks = f' Looks at the test split: {first["test_looks"]}.' if 'test_looks' in first else ''
    return (
        f'{_table(rows[1:], rows[0])}\n'
        f'In percent, with the {CONFIDENCE} % interval of the bootstrap over clips ({_ROUNDS} '
        'samples, one trained model): it says how scores vary with other clips, not with other '
        'seeds.\n\n'
        f'Protocol: {made_with(first)}. Checkpoint: {captioner.why}.{looks}'
    )


def _score(
    metrics: Mapping[str, float], found: Mapping[str, tuple[float, float]], name: str
) -> str:
    if name not in metrics:
        return ''
    if name not in found:
        return f'{metrics[name]:.1f}'
    low, high = found[name]
    return f'{metrics[name]:.1f} ({low:.1f} to {high:.1f})'


def _limits(captioner: Captioner) -> str:
    run = captioner.run
    return '\n'.join(
        [
            f'- Captions use the {len(run.vocab) - len(SPECIAL)} words of the training captions '
            'and no others, and are of their kind and language.',
            f'- A clip is described from {run.manifest.frames} frames: what happens between them '
            'is not seen, and sound is not read.',
            '- The score of a caption is no probability that it is right. Wrong captions read as '
            'well as right ones.',
            '- Errors and biases of the training captions and of the feature extractor remain.',
        ]
    )


def _license(license: str | None) -> str:
    ours = (
        f'These weights: `{license}`.'
        if license
        else 'Not stated: ask the author before you use these weights.'
    )
    return f'{ours} The training data and the feature extractor have licenses of their own.'


def _table(rows: Any, header: Sequence[str] = ('', '')) -> str:
    lines = [header, ['---'] * len(header), *rows]
    # A bar inside of a cell would end it, and so would a new line.
    cells = [[' '.join(str(cell).split()).replace('|', '\\|') for cell in line] for line in lines]
    return ''.join(f'| {" | ".join(line)} |\n' for line in cells)
