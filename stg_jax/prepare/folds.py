"""The folds of a cross-validation: every train and validation clip is validated on once."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from stg_jax import files
from stg_jax.data.clip import Clip
from stg_jax.data.manifest import Manifest
from stg_jax.errors import UserError

PARTS = ('train', 'val')  # the test split stays out of every fold


def write_folds(data_dir: str | os.PathLike[str], out: Path, number: int) -> int:
    """Write `number` data folders into `out`, which appears whole or not at all.

    Fold k validates on every clip whose place, train clips before validation clips, is k modulo
    `number`, and trains on the others.

    Returns:
      The number of clips.

    Raises:
      UserError: the data folder cannot be read, or has too few clips or a clip without a caption.
    """
    from stg_jax.data.records import write_data_folder  # imports TensorFlow

    manifest = Manifest.load(data_dir)
    splits = [split for split in PARTS if split in manifest.splits]
    num_clips = sum(manifest.splits[split]['clips'] for split in splits)
    if num_clips < 2 * number:
        raise UserError(
            f'{data_dir} has {num_clips} clips to train and validate on, too few for {number} folds'
        )

    def clips(fold: int, *, held_out: bool) -> Iterator[Clip]:
        from stg_jax.data.records import read_clips

        every = itertools.chain.from_iterable(read_clips(data_dir, split) for split in splits)
        return (clip for i, clip in enumerate(every) if (i % number == fold) == held_out)

    with files.write_folder(out) as folder:
        for fold in range(number):
            # Read once for each split of each fold: no clip is kept, however large the data is.
            write_data_folder(
                folder / f'fold-{fold}',
                {'train': clips(fold, held_out=False), 'val': clips(fold, held_out=True)},
                data_set=manifest.data_set,
                extractor=manifest.extractor,
                sources={**manifest.sources, 'fold': f'{fold} of {number}'},
                missing=manifest.missing,
            )
    return num_clips
