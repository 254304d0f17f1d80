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

import importlib
from pathlib import Path
from typing import Any

from absl import flags

from stg_jax import cli
from stg_jax.data.manifest import Manifest, as_flags, overrides
from stg_jax.errors import UserError
from stg_jax.prepare.msvd import prepare_msvd
from stg_jax.prepare.toy import prepare_toy, read_counts

_OUT = flags.DEFINE_string('out', None, 'Folder to write.')
_NUM_FRAMES = flags.DEFINE_integer(
    'num_frames', None, 'Frames of a clip; by default what configs/SOURCE.py says.', 1
)
_NUM_OBJECTS = flags.DEFINE_integer(
    'num_objects', None, 'Most objects of a frame; by default what configs/SOURCE.py says.', 1
)
_CLIPS = flags.DEFINE_string(
    'clips', None, 'toy: clips of each split; by default what configs/toy.py says.'
)
_SEED = flags.DEFINE_integer('seed', 0, 'toy: another seed gives other videos.', 0)
_ANNOTATIONS = flags.DEFINE_string('annotations', None, 'msvd: folder of the annotation files.')
_APPEARANCE = flags.DEFINE_string('appearance', None, 'msvd: HDF5 file of 2D features.')
_MOTION = flags.DEFINE_string('motion', None, 'msvd: HDF5 file of 3D features.')
_OBJECTS = flags.DEFINE_string('objects', None, 'msvd: HDF5 file of detected objects.')


_OWN_FLAGS = {
    'toy': (_CLIPS, _SEED),
    'msvd': (_ANNOTATIONS, _APPEARANCE, _MOTION, _OBJECTS),
}


def main(args: list[str]) -> None:
    """Prepare the data of the source named on the command line."""
    source = _source(args)
    config = importlib.import_module(f'configs.{source}').get_config()
    out = Path(cli.required(_OUT))
    size = {
        'num_frames': _NUM_FRAMES.value or config.data.frames,
        'num_objects': _NUM_OBJECTS.value or config.data.objects,
    }
    if source == 'toy':
        num_clips = read_counts(_CLIPS.value or config.data.toy_clips)
        manifest = prepare_toy(out, num_clips=num_clips, seed=_SEED.value, **size)
    else:
        files = {flag.name: cli.required(flag) for flag in _OWN_FLAGS['msvd']}
        manifest = prepare_msvd(out, **files, **size)
    _report(out, manifest, config.data)


def _source(args: list[str]) -> str:
    """Return the source that is named, after refusing flags that belong to another one."""
    if not args or args[0] not in _OWN_FLAGS:
        raise UserError(f'name a source to prepare: {" or ".join(_OWN_FLAGS)} (see --help)')
    cli.no_arguments(args[1:])
    for source, own_flags in _OWN_FLAGS.items():
        foreign = [flag.name for flag in own_flags if source != args[0] and flag.present]
        if foreign:
            raise UserError(f'--{foreign[0]} has no meaning for {args[0]} (see --help)')
    return args[0]


def _report(out: Path, manifest: Manifest, data_config: Any) -> None:
    splits = ', '.join(
        f'{name} {counts["clips"]} clips with {counts["captions"]} captions'
        for name, counts in manifest.splits.items()
    )
    widths = ', '.join(f'{kind} {width}' for kind, width in manifest.widths.items())
    print(f'Wrote {out}: {splits}')
    print(f'{manifest.frames} frames, at most {manifest.objects} objects each; widths: {widths}')
    changes = as_flags(overrides(manifest, data_config))
    config = f'--config configs/{manifest.data_set}.py --config.data.dir={out} {changes}'.rstrip()
    print(f'Next: python launch/train.py {config} --workdir runs/{manifest.data_set}')


if __name__ == '__main__':
    cli.run(main)
