"""Report what a file or folder holds, and how to pass it to prepare.py.

    python launch/inspect_file.py somebody_elses.h5
    python launch/inspect_file.py features.hdf5 --annotations DIR --data_set msvd

Reads features (HDF5, .npy and .npz folders, bottom-up-attention TSV), videos, captions and prepared
data folders. Nothing in the file is executed. With --annotations it also reports which captioned
clips the file covers.
"""

from absl import flags

from stg_jax.cli import app
from stg_jax.datasets.clip_ids import SCHEMES
from stg_jax.datasets.registry import DATASETS
from stg_jax.errors import UserError

_ANNOTATIONS = flags.DEFINE_string('annotations', None, 'File or folder of captions.')
_DATA_SET = flags.DEFINE_enum(
    'data_set', 'own', list(DATASETS), 'Data set that --annotations belongs to.'
)
_IDS = flags.DEFINE_enum('ids', None, list(SCHEMES), 'How keys name clips; inferred by default.')


def main(args: list[str]) -> None:
    """Print the report."""
    if len(args) != 1:
        raise UserError('name one file or folder to inspect (see --help)')
    from stg_jax.datasets.registry import (
        read_annotations,  # after the flags, so that --help is quick
    )
    from stg_jax.prepare.inspect.path import inspect

    annotations = None
    if _ANNOTATIONS.value:
        annotations = read_annotations(_DATA_SET.value, _ANNOTATIONS.value)
    print(inspect(args[0], annotations, _IDS.value))


def run() -> None:
    """Run the command line of this process."""
    app.run(main)
