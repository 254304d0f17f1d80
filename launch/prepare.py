"""Write a data folder: shards of clips with their features and captions.

    python launch/prepare.py toy --out data/toy
    python launch/prepare.py toy --out data/tiny --clips train=60,val=10,test=10 --seed 1
    python launch/prepare.py msvd --annotations DIR --appearance a.hdf5 --motion m.hdf5 \
        --objects o.hdf5 --out data/msvd

toy   renders videos of coloured shapes that interact (kept in OUT/videos) and extracts their
      features from the pixels. Needs no input.
msvd  joins the captions of MSVD (sents_{train,val,test}_lc_nopunc.txt with youtube_mapping.txt, or
      the corpus as *.csv) with HDF5 features keyed by clip name: appearance and motion (steps, D),
      objects a group with feats (steps, n, D), boxes (steps, n, 4), scores and labels (steps, n).
      Clips without captions or without appearance features are left out and counted; clips without
      motion features or objects stay, and OUT/manifest.json lists them.

OUT must not exist. It becomes a TFDS folder that tfds.builder_from_directory opens.
"""

import concurrent.futures
import functools
import importlib
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from absl import flags

from stg_jax import cli, files
from stg_jax.data import msvd, toy
from stg_jax.data.clip import Clip
from stg_jax.data.importers import hdf5
from stg_jax.data.manifest import Manifest, as_flags, overrides
from stg_jax.data.sampling import sample_index
from stg_jax.errors import UserError
from stg_jax.extract.pixels import PixelExtractor

_OUT = flags.DEFINE_string('out', None, 'Folder to write.')
_NUM_FRAMES = flags.DEFINE_integer(
    'num_frames', None, 'Frames of a clip; by default what configs/SOURCE.py says.', 1
)
_NUM_OBJECTS = flags.DEFINE_integer(
    'num_objects', None, 'Most objects of a frame; by default what configs/SOURCE.py says.', 1
)
_CLIPS = flags.DEFINE_string('clips', 'train=600,val=60,test=60', 'toy: clips of each split.')
_SEED = flags.DEFINE_integer('seed', 0, 'toy: another seed gives other videos.', 0)
_ANNOTATIONS = flags.DEFINE_string('annotations', None, 'msvd: folder of the annotation files.')
_APPEARANCE = flags.DEFINE_string('appearance', None, 'msvd: HDF5 file of 2D features.')
_MOTION = flags.DEFINE_string('motion', None, 'msvd: HDF5 file of 3D features.')
_OBJECTS = flags.DEFINE_string('objects', None, 'msvd: HDF5 file of detected objects.')

_CHUNK = 8  # clips sent to a process at a time
_T = TypeVar('_T')


def main(args: list[str]) -> None:
    """Prepare the data of the source named on the command line."""
    sources = {
        'toy': (prepare_toy, (_CLIPS, _SEED)),
        'msvd': (prepare_msvd, (_ANNOTATIONS, _APPEARANCE, _MOTION, _OBJECTS)),
    }
    if not args or args[0] not in sources:
        raise UserError(f'name a source to prepare: {" or ".join(sources)} (see --help)')
    cli.no_arguments(args[1:])
    for source, (_, own_flags) in sources.items():
        foreign = [flag.name for flag in own_flags if source != args[0] and flag.present]
        if foreign:
            raise UserError(f'--{foreign[0]} has no meaning for {args[0]} (see --help)')
    prepare, _ = sources[args[0]]
    out = Path(cli.required(_OUT))
    data_config = importlib.import_module(f'configs.{args[0]}').get_config().data
    manifest = prepare(
        out,
        num_frames=_NUM_FRAMES.value or data_config.frames,
        num_objects=_NUM_OBJECTS.value or data_config.objects,
    )
    _report(out, manifest, data_config)


def prepare_toy(out: Path, *, num_frames: int, num_objects: int) -> Manifest:
    """Render the toy world, extract its features and write them."""
    extractor = PixelExtractor(num_frames, num_objects)
    extract = functools.partial(_extract, extractor)
    counts = _counts(_CLIPS.value)
    # spawn: a forked child of a process with TensorFlow's threads may hang.
    context = multiprocessing.get_context('spawn')
    pool = concurrent.futures.ProcessPoolExecutor(os.cpu_count(), mp_context=context)
    with files.write_folder(out) as folder, pool:

        def clips(split: str, count: int) -> Iterator[Clip]:
            films = toy.render(folder / 'videos', seed=_SEED.value, num_clips={split: count})
            films = _progress(films, count, f'{split}: rendered')
            yield from _progress(
                pool.map(extract, films, chunksize=_CHUNK), count, f'{split}: extracted'
            )

        from stg_jax.data import records  # here: the worker processes need no TensorFlow

        return records.write_records(
            folder,
            {split: clips(split, count) for split, count in counts.items()},
            data_set='toy',
            extractor=extractor.settings,
            sources={'seed': _SEED.value, 'videos': 'videos'},
        )


def _extract(extractor: PixelExtractor, film: toy.ToyClip) -> Clip:
    clip = extractor.extract(film.path, clip_id=film.id, captions=film.captions)
    index = sample_index(len(film.true_box), len(clip.object_mask))
    return replace(clip, true_box=film.true_box[index])


def _counts(text: str) -> dict[str, int]:
    counts = {}
    for part in text.split(','):
        split, _, count = part.partition('=')
        if not count.isdecimal():
            raise UserError(f'--clips must look like train=600,val=60,test=60, found {text!r}')
        counts[split] = int(count)
    return counts


def prepare_msvd(out: Path, *, num_frames: int, num_objects: int) -> Manifest:
    """Join annotations and features of MSVD and write them."""
    given = {flag.name: flag for flag in (_ANNOTATIONS, _APPEARANCE, _MOTION, _OBJECTS)}
    sources = {name: cli.required(flag) for name, flag in given.items()}
    splits = msvd.read_splits(sources['annotations'])
    paths = {name: sources[name] for name in ('appearance', 'motion', 'objects')}
    with hdf5.open_features(**paths, num_frames=num_frames, num_objects=num_objects) as features:
        splits = _with_features(splits, features)
        ids = [clip_id for captions in splits.values() for clip_id in captions]
        missing = features.missing(ids)
        for kind, lacking in missing.items():
            if lacking:
                _say(f'{len(lacking)} clips have no {kind} features: they stay, without')

        def clips(split: str, captions: Mapping[str, list[str]]) -> Iterator[Clip]:
            rows = _progress(captions.items(), len(captions), f'{split}: written')
            return (features.read(clip_id, texts) for clip_id, texts in rows)

        from stg_jax.data import records  # after the checks, so that a mistake shows at once

        return records.write_data_folder(
            out,
            {split: clips(split, captions) for split, captions in splits.items()},
            data_set='msvd',
            extractor={'name': 'hdf5', **{name: Path(path).name for name, path in paths.items()}},
            sources=sources,
            missing=missing,
        )


def _with_features(
    splits: Mapping[str, Mapping[str, list[str]]], features: hdf5.FeatureFiles
) -> dict[str, dict[str, list[str]]]:
    """Return the clips that have captions and appearance features; say how many have one only."""
    captioned = {clip_id for captions in splits.values() for clip_id in captions}
    featured = set(features.appearance)
    if not captioned & featured:
        raise UserError(
            f'{features.appearance.filename} and the annotations have no clip in common: its keys '
            f'are like {min(featured)!r}, but must be like {min(captioned)!r}'
        )
    for lacking, present, number in (
        ('captions', 'features', len(featured - captioned)),
        ('appearance features', 'captions', len(captioned - featured)),
    ):
        if number:
            _say(f'left out: {number} clips with {present} but without {lacking}')
    return {
        split: {clip_id: texts for clip_id, texts in captions.items() if clip_id in featured}
        for split, captions in splits.items()
    }


def _progress(items: Iterable[_T], total: int, what: str) -> Iterator[_T]:
    """Yield `items`; now and then write how many and how fast to standard error."""
    terminal = sys.stderr.isatty()
    start = shown = time.monotonic()
    count = 0
    for count, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if count == total or now - shown > (0.2 if terminal else 10):
            shown = now
            end = '\r' if terminal and count < total else '\n'
            rate = count / max(now - start, 1e-9)
            print(f'{what} {count}/{total} clips, {rate:.1f}/s', end=end, file=sys.stderr)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _report(out: Path, manifest: Manifest, data_config: Any) -> None:
    splits = ', '.join(
        f'{name} {counts["clips"]} clips with {counts["captions"]} captions'
        for name, counts in manifest.splits.items()
    )
    widths = ', '.join(f'{kind} {width}' for kind, width in manifest.widths.items())
    print(f'Wrote {out}: {splits}')
    print(f'{manifest.frames} frames, at most {manifest.objects} objects each; widths: {widths}')
    config = f'--config configs/{manifest.data_set}.py --config.data.dir={out}'
    changes = as_flags(overrides(manifest, data_config))
    print(f'Next: python launch/train.py {config} {changes} --workdir runs/{manifest.data_set}')


if __name__ == '__main__':
    cli.run(main)
