r"""Prepare a data set: write captions and features of its clips as shards for training.

    python launch/prepare.py toy --out data/toy
    python launch/prepare.py own --annotations captions.csv --videos clips/ --out data/own
    python launch/prepare.py msvd --annotations DIR --videos YouTubeClips/ --out data/msvd
    python launch/prepare.py msvd --annotations DIR --appearance a.hdf5 --motion m.hdf5 \
        --objects o.hdf5 --out data/msvd
    python launch/prepare.py features --videos clips/ --out features
    python launch/prepare.py features --data data/msvd --format npy --out features
    python launch/prepare.py folds --data data/msvd --folds 5 --out data/msvd_folds

The source `toy` renders videos of colored shapes that interact (kept in OUT/videos) and needs no
input; --world makes a harder world. The others are data sets; the help of --annotations below lists
what each of them reads.

Features are extracted from --videos, a folder of files named by clip, or read from feature files:
HDF5, .npy folders, bottom-up-attention TSV or .npz (docs/data.md describes the layouts).
launch/inspect_file.py reports what a file holds and how to pass it. --dry_run prints the plan and
writes nothing.

Clips without features are left out and counted. Videos that cannot be read are left out and listed
in OUT/failures.json. The same command resumes an extraction that was stopped.

`backbone DETECTOR.onnx --out ENCODER.onnx` cuts a frame encoder out of a detector.

The source `features` only writes features, as HDF5 or .npy, from --videos or from a data folder.
The source `folds` divides the train and validation clips of a data folder for a cross-validation;
launch/sweep.py --folds OUT runs it.

OUT must not exist. From `toy` and the data sets it becomes a TFDS folder, which
tfds.builder_from_directory opens. launch/verify.py reads all of it and prints a data card.
"""

import dataclasses
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from stg_jax import configs, files
from stg_jax.cli import app, config_flag, program, signals
from stg_jax.data.manifest import Manifest
from stg_jax.datasets.clip_ids import SCHEMES
from stg_jax.datasets.registry import DATASETS
from stg_jax.errors import UserError, first_line
from stg_jax.run.validation_score import MIN_CLIPS

if TYPE_CHECKING:
    from stg_jax.config import ToyConfig

SOURCES = ('toy', *DATASETS, 'features', 'folds')
_GRID_NODES = 9  # default number of objects if they are cells of a grid: 3 x 3
# Commands of their own, which are also started as `prepare.py inspect FILE`.
_OTHERS = ('inspect', 'verify')
FIRST_WORDS = (*SOURCES, *_OTHERS, 'backbone')

_OUT = flags.DEFINE_string('out', None, 'Folder to write.')
_DRY_RUN = flags.DEFINE_bool('dry_run', False, 'Print the plan, and write nothing.')
flags.DEFINE_alias('dry-run', 'dry_run')
_NUM_FRAMES = flags.DEFINE_integer(
    'num_frames', None, 'T, frames sampled of a clip; default in its config.', 1
)
_NUM_OBJECTS = flags.DEFINE_integer(
    'num_objects', None, 'N, maximum objects of a frame; default in its config.', 1
)
_WORKERS = flags.DEFINE_integer(
    'workers', None, 'Processes; by default one per core, or one in all if models are used.', 1
)
_CLIPS = flags.DEFINE_string(
    'clips', None, 'toy: clips of each split, as train=N,val=N,test=N; default in configs/toy.py.'
)
_SEED = flags.DEFINE_integer('seed', 0, 'toy: seed of the videos.', 0)
_WORLD = flags.DEFINE_list(
    'world', [], 'toy: other values of config.toy, as distractors=2,detector_dropout=0.3.'
)
_ANNOTATIONS = flags.DEFINE_string(
    'annotations',
    None,
    'File or folder of captions. '
    + ' '.join(f'{name}: {row.annotations}.' for name, row in DATASETS.items()),
)
_IDS = flags.DEFINE_enum(
    'ids',
    None,
    list(SCHEMES),
    'How files name clips; inferred by default.',
)
_APPEARANCE = flags.DEFINE_string('appearance', None, '2D features: PATH, or PATH:START-STOP.')
_MOTION = flags.DEFINE_string('motion', None, '3D features; clips may lack them.')
_OBJECTS = flags.DEFINE_string('objects', None, 'Detected objects; clips may lack them.')
_GRID = flags.DEFINE_string('grid', None, 'Features of the cells of each frame, (steps, cells, D).')
_BOXES = flags.DEFINE_string('boxes', None, 'Boxes of the objects, if in a separate file.')
_FRAME_SIZES = flags.DEFINE_string('frame_sizes', None, 'Frame sizes, if boxes are in pixels.')
_MOTION_STEPS = flags.DEFINE_enum(
    'motion_steps', 'index', ['index', 'mean'], 'How motion features are resampled to T steps.'
)

_VIDEOS = flags.DEFINE_string('videos', None, 'Folder of videos named by clip.')
_EXTRACTOR = flags.DEFINE_string(
    'extractor', 'models', 'models, or pixels: the small descriptors of the toy world.'
)
_DETECTOR = flags.DEFINE_string(
    'detector', None, 'keras:PRESET, of D-FINE by default, or onnx:FILE.'
)
_FRAME_ENCODER = flags.DEFINE_string(
    'frame_encoder',
    None,
    'keras:PRESET, onnx:FILE, lite0 or lite2; by default keras:resnet_101_imagenet, or lite0 for '
    'videos of your own where the extra lite is installed.',
)
_CLIP_ENCODER = flags.DEFINE_string(
    'clip_encoder', 'difference', 'keras:PRESET, or difference: of neighboring frames.'
)
_NODES = flags.DEFINE_enum(
    'nodes',
    None,
    ['boxes', 'grid'],
    'Objects are detected boxes, the default, or cells of a grid, the default with lite0 and lite2 '
    'unless a detector is named.',
)
_OBJECT_FEATURES = flags.DEFINE_enum(
    'object_features', 'roi', ['roi', 'crop'], "Pool the encoder's map, or encode each crop."
)
_GRID_SIDE = flags.DEFINE_integer(
    'grid_side',
    4,
    "Store the frame encoder's map in at most this many rows and columns of cells; 0: no grid.",
    0,
)
_MIN_SCORE = flags.DEFINE_float('min_score', 0.5, 'Drop detections below this score.', 0, 1)
_BATCH_SIZE = flags.DEFINE_integer('batch_size', 16, 'Images per batch of a model.', 1)
_DTYPE = flags.DEFINE_enum('dtype', 'float32', ['float32', 'bfloat16'], 'Data type of the models.')

_DATA = flags.DEFINE_string('data', None, 'features, folds: data folder to read.')
_FOLDS = flags.DEFINE_integer('folds', None, 'folds: number of parts, each validated on once.', 2)
_FORMAT = flags.DEFINE_enum(
    'format', 'hdf5', ['hdf5', 'npy'], 'features: a file for each kind, or for each clip and kind.'
)

_RUNNER = flags.DEFINE_string(
    'runner', None, 'Apache Beam runner that does the work: DirectRunner, DataflowRunner, ...'
)
_BEAM = flags.DEFINE_multi_string(
    'beam', [], 'Option of the pipeline, e.g. --beam=--direct_num_workers=4; may be repeated.'
)
_WORK_DIR = flags.DEFINE_string(
    'work_dir', None, 'Folder for finished clips until all are written; by default next to OUT.'
)

_TOY = (_CLIPS, _SEED, _WORLD)
_FEATURES = (_DATA, _FORMAT, _FOLDS)
_FROM_FEATURES = (_APPEARANCE, _MOTION, _OBJECTS, _GRID, _BOXES, _FRAME_SIZES, _MOTION_STEPS)
_FROM_MODELS = (
    *(_DETECTOR, _FRAME_ENCODER, _CLIP_ENCODER, _NODES),
    *(_OBJECT_FEATURES, _MIN_SCORE, _BATCH_SIZE, _DTYPE, _GRID_SIDE),
)
_FROM_VIDEOS = (_EXTRACTOR, *_FROM_MODELS)
_PIPELINE = (_RUNNER, _BEAM, _WORK_DIR)
SECTIONS = {
    'The toy world': _TOY,
    'From feature files': _FROM_FEATURES,
    'From videos': (_VIDEOS, *_FROM_VIDEOS),
    'Features only, and folds': _FEATURES,
    'Many machines': _PIPELINE,
}


def main(args: list[str]) -> None:
    """Prepare the source named on the command line."""
    if args[:1] == ['backbone']:
        return _cut_backbone(args[1:])
    if not args or args[0] not in SOURCES:
        raise UserError(
            f'name a source to prepare: {", ".join(SOURCES)}; or inspect FILE, verify DATA_DIR, '
            'backbone DETECTOR.onnx (see --help)'
        )
    app.no_arguments(args[1:])
    source = args[0]
    _refuse_addresses(_OUT, _ANNOTATIONS, _VIDEOS, _DATA, *_FROM_FEATURES)
    # Like Ctrl-C, so that temporary folders are removed and worker processes are stopped.
    signals.interrupt_on(signal.SIGTERM)
    config = configs.get_config(_config(source))
    out = Path(app.required(_OUT))
    files.refuse_existing(out)
    models = _choose_models(source)
    cells = _GRID_NODES if models.get('nodes') == 'grid' else 0
    size = {
        'num_frames': _NUM_FRAMES.value or config.data.frames,
        'num_objects': _NUM_OBJECTS.value or cells or config.data.objects,
    }
    if source == 'features':
        return _write_features(out, models, **size)
    if source == 'folds':
        return _write_folds(out)
    _refuse(source, *_FEATURES)
    if source == 'toy':
        manifest = _prepare_toy(out, config, **size)
    else:
        manifest = _prepare_captioned(source, out, models, **size)
    if manifest:
        from stg_jax.prepare.plan import describe_written

        print(describe_written(out, manifest, config.data, _config(manifest.data_set)))
        _warn_of_few_clips(manifest.splits.get('val', {'clips': 0})['clips'])


def _cut_backbone(paths: list[str]) -> None:
    """Cut the frame encoder out of a detector and write it."""
    from stg_jax.extract.onnx.backbone import cut_backbone

    if len(paths) != 1:
        raise UserError('name one detector: backbone DETECTOR.onnx --out ENCODER.onnx')
    out = Path(app.required(_OUT))
    files.refuse_existing(out)
    width = cut_backbone(paths[0], out)
    print(f'Wrote {out}, of {width} channels: pass it as --frame_encoder=onnx:{out}')


def _config(source: str) -> str:
    """Name the file in configs/ that trains on a source."""
    if source in ('features', 'folds'):
        return 'own'
    return DATASETS[source].config if source in DATASETS else source


def _prepare_toy(out: Path, config: Any, **size: int) -> Manifest | None:
    from stg_jax.prepare.toy import prepare_toy, read_counts

    _refuse('toy', _ANNOTATIONS, _VIDEOS, *_FROM_FEATURES, *_FROM_VIDEOS, *_PIPELINE)
    num_clips, world = read_counts(_CLIPS.value or config.data.toy_clips), _world()
    if _DRY_RUN.value:
        print(f'would render {num_clips} into {out}, extract {size} and write shards')
        return None
    return prepare_toy(out, num_clips=num_clips, world=world, workers=_WORKERS.value, **size)


def _world() -> 'ToyConfig':
    """Read --world and --seed as overrides of the config of the toy world."""
    from stg_jax.config import parse_config

    pairs = [*_WORLD.value, f'seed={_SEED.value}']
    args = ['--config=toy', *(f'--config.toy.{pair}' for pair in pairs)]
    try:
        return parse_config(config_flag.read_config(args)).toy
    except (flags.Error, AttributeError, ValueError) as error:
        raise config_flag.unknown_key(args) or UserError(
            f'--world is {",".join(_WORLD.value)!r}, but must look like distractors=2,'
            f'detector_dropout=0.3: {first_line(error)}'
        ) from None


def _choose_models(source: str) -> dict[str, Any]:
    """Collect the flags of the models, with defaults for those that are not given."""
    if not _VIDEOS.value:
        return {}
    from stg_jax.extract.pretrained import default_models
    from stg_jax.extract.registry import extractor_class

    if not extractor_class(_EXTRACTOR.value).options:
        return {}
    given = {flag.name: flag.value for flag in _FROM_MODELS}
    return default_models(given, of_own_videos=source in ('own', 'features'))


def _prepare_captioned(
    source: str, out: Path, models: Mapping[str, Any], **size: int
) -> Manifest | None:
    from stg_jax.datasets.registry import read_annotations
    from stg_jax.prepare.write import write_data

    _refuse(source, *_TOY)
    if not _RUNNER.value:
        _refuse('a run without --runner', _BEAM)
    if (_VIDEOS.value is None) == (_APPEARANCE.value is None):
        raise UserError('pass either --videos, or feature files: --appearance (see --help)')
    annotations = read_annotations(source, app.required(_ANNOTATIONS))
    if _VIDEOS.value:
        plan = _plan_videos(annotations, models, **size)
    else:
        plan = _plan_features(annotations, **size)
    if _DRY_RUN.value:
        print(plan.describe(out, **size))
        _warn_of_few_clips(len(plan.splits.get('val', ())))
        return None
    return write_data(out, plan, _runner(plan.extractor))


def _runner(extractor: Mapping[str, Any]) -> Any:
    from stg_jax.extract.registry import EXTRACTORS
    from stg_jax.prepare.write import Runner

    kind = EXTRACTORS.get(extractor['name'])
    one = kind is None or kind.uses_models  # models, or one HDF5 file, keep one process busy
    beam = [f'--runner={_RUNNER.value}', *_BEAM.value] if _RUNNER.value else None
    workers = _WORKERS.value or (1 if one else os.cpu_count() or 1)
    return Runner(workers=workers, beam=beam, work_dir=_WORK_DIR.value)


def _write_features(out: Path, models: Mapping[str, Any], **size: int) -> None:
    """Write features and no data folder."""
    from stg_jax.share.features import features_of_data, features_of_videos

    _refuse('features', *_TOY, *_FROM_FEATURES, _ANNOTATIONS, _IDS, _DRY_RUN, _FOLDS)
    if (_VIDEOS.value is None) == (_DATA.value is None):
        raise UserError('pass either --videos FOLDER or --data DATA_DIR (see --help)')
    if _DATA.value:
        _refuse('--data', *_FROM_VIDEOS, *_PIPELINE, _NUM_FRAMES, _NUM_OBJECTS, _WORKERS)
        number = features_of_data(_DATA.value, out, _FORMAT.value)
    else:
        settings = _choose_extractor(models, **size)
        videos = app.required(_VIDEOS)
        number = features_of_videos(videos, out, _FORMAT.value, settings, _runner(settings))
    print(f'Wrote {out}: features of {number} clips')


def _write_folds(out: Path) -> None:
    """Write the data folders of a cross-validation."""
    from stg_jax.prepare.folds import write_folds

    foreign = (_ANNOTATIONS, _VIDEOS, _IDS, _DRY_RUN, _FORMAT, _NUM_FRAMES, _NUM_OBJECTS, _WORKERS)
    _refuse('folds', *_TOY, *_FROM_FEATURES, *_FROM_VIDEOS, *_PIPELINE, *foreign)
    number = app.required(_FOLDS)
    num_clips = write_folds(app.required(_DATA), out, number)
    print(f'Wrote {out}: {number} folds of {num_clips} clips')
    command = f'python launch/sweep.py --config CONFIG --folds {out} --seeds {number} --out runs/cv'
    print(f'Next: {program.spelled(command)}')


def _plan_videos(annotations: Any, models: Mapping[str, Any], **size: int) -> Any:
    from stg_jax.extract.pretrained import models_notes
    from stg_jax.prepare.from_videos import plan_videos

    _refuse('--videos', *_FROM_FEATURES)
    settings = _choose_extractor(models, **size)
    plan = plan_videos(annotations, app.required(_VIDEOS), settings=settings, ids=_IDS.value)
    found = models_notes(settings, encoder=_FRAME_ENCODER.present, dtype=_DTYPE.present)
    return dataclasses.replace(plan, notes=[*plan.notes, *found])


def _choose_extractor(
    models: Mapping[str, Any], num_frames: int, num_objects: int
) -> dict[str, Any]:
    """Compose the settings of the extractor that the flags name."""
    from stg_jax.extract.registry import extractor_class

    kind = extractor_class(_EXTRACTOR.value)
    _refuse(f'--extractor={kind.name}', *(x for x in _FROM_MODELS if x.name not in kind.options))
    settings = kind.choose(num_frames, num_objects, **models)
    if _DRY_RUN.value:  # otherwise the models are loaded, and so checked, right after the plan
        kind.check(settings)
    return settings


def _plan_features(annotations: Any, **size: int) -> Any:
    from stg_jax.prepare.from_features import FeatureFiles, plan_features

    _refuse('--appearance', *_FROM_VIDEOS)
    if not _RUNNER.value:
        _refuse('--appearance without --runner', _WORK_DIR)  # reading again costs nothing
    named: dict[str, Any] = {flag.name: flag.value for flag in _FROM_FEATURES}
    named |= size
    return plan_features(annotations, FeatureFiles(**named), _IDS.value)


def _refuse(what: str, *foreign: flags.FlagHolder) -> None:
    """Refuse flags that would be ignored."""
    for flag in foreign:
        if flag.present:
            raise UserError(f'--{flag.name} has no meaning for {what} (see --help)')


def _refuse_addresses(*paths: flags.FlagHolder) -> None:
    """Refuse bucket addresses where only a file system works."""
    for flag in paths:
        if '://' in (flag.value or ''):
            raise UserError(
                f'--{flag.name}={flag.value} is not on a file system: mount the bucket, e.g. with '
                'gcsfuse, and pass the folder where it is mounted'
            )


def _warn_of_few_clips(num_clips: int) -> None:
    """Warn about a validation split that is too small to choose a checkpoint by CIDEr."""
    if num_clips < MIN_CLIPS:
        app.warn(
            f'validation clips: {num_clips}, fewer than {MIN_CLIPS}. CIDEr cannot tell '
            'checkpoints apart on so few, so training will choose by validation loss. Prepare '
            'more clips, or put more of them into the split val'
        )


def run() -> None:
    """Run the command line of this process."""
    if sys.argv[1:2] and sys.argv[1] in _OTHERS:
        os.execv(sys.executable, [*program.command(sys.argv[1]), *sys.argv[2:]])
    app.run(main)
