"""Frame features in HDF5: an array per clip, or one array with a row per clip."""

import h5py
import numpy as np

from stg_jax.errors import UserError
from stg_jax.feature_files import hdf5
from stg_jax.feature_files.base import Source, as_numbers, as_steps, steps_shape, usual_width


class DatasetFrames(Source[np.ndarray]):
    """An array (steps, D) or (D,) per clip: SGN, RecNet, SA-LSTM, HMN, CARE, NACF, CST.

    Those of MATLAB 7.3 are stored with their axes reversed.
    """

    def __init__(self, file: h5py.File, path: str):
        self.path = path
        self.family = 'HDF5, an array per clip (SGN, RecNet, HMN, CARE, CST)'
        self.keys = hdf5.clip_keys(file)
        self._file = file
        self._reversed = hdf5.is_matlab(file)
        if self._reversed:
            self.family = 'MATLAB 7.3, an array per clip'
        self.width = usual_width(self.keys, self._width)

    def _width(self, key: str) -> int:
        # From the shape only: damaged values are the failure of one clip, when it is read.
        shape = hdf5.dataset(self._file, key).shape
        return steps_shape(shape[::-1] if self._reversed else shape, f'{self.path}: {key}')[-1]

    def read(self, key: str) -> np.ndarray:
        """Read (S, D) float32 features of a clip."""
        values = hdf5.read(hdf5.dataset(self._file, key))
        return as_steps(values.T if self._reversed else values, f'{self.path}: {key}', self.width)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class RowFrames(Source[np.ndarray]):
    """`feats` (clips, steps, D) or (clips, D), with `lens` valid steps of each: RMN, GL-RG."""

    family = 'HDF5, a row per clip (RMN, GL-RG)'

    def __init__(self, file: h5py.File, path: str):
        self._file = file
        self._rows = hdf5.dataset(file, 'feats')
        if self._rows.ndim < 2 or not self._rows.size:
            raise UserError(
                f'{path}: feats has shape {self._rows.shape}, expected (clips, steps, D)'
            )
        self._lens = read_lens(file, path, len(self._rows))
        self.path = path
        rows = range(len(self._rows))
        self.keys = [str(i) for i in rows if self._lens is None or self._lens[i] > 0]
        if not self.keys:
            raise UserError(f'{path}: no row has a valid step (lens): write the file again')
        self.width = steps_shape(self._rows.shape[1:], f'{path}: feats')[-1]
        empty = len(self._rows) - len(self.keys)
        self.warnings = [f'{empty} rows have no valid step: left out'] if empty else []

    def read(self, key: str) -> np.ndarray:
        """Read (S, D) float32 features of the valid steps of a clip."""
        row = row_number(self.path, key, len(self._rows))
        steps = hdf5.read(self._rows, row)
        # What follows the valid steps is padding, often zeros: sampled, it would be black frames.
        if steps.ndim >= 2 and self._lens is not None:
            steps = steps[: self._lens[row]]
        return as_steps(steps, f'{self.path}: row {key}')

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_lens(file: h5py.File, path: str, num_rows: int) -> np.ndarray | None:
    """Read the valid steps of each row, (clips,); None where the file does not say.

    Raises:
      UserError: they do not belong to the rows.
    """
    if not hdf5.holds(file, 'lens'):
        return None
    # Also as (clips, 1), and as floats.
    lens = hdf5.read(hdf5.dataset(file, 'lens')).reshape(-1)
    lens = as_numbers(lens, f'{path}: lens').astype(np.int64)
    if len(lens) != num_rows:
        raise UserError(f'{path} has {num_rows} rows but {len(lens)} lens: write it again')
    return lens


def row_number(path: str, key: str, num_rows: int) -> int:
    """Find the row that a key names.

    Raises:
      UserError: there is no such row.
    """
    # int() also takes signs, blanks, underscores and the digits of other scripts.
    if not (key.isdecimal() and key.isascii() and int(key) < num_rows):
        raise UserError(f'{path} has rows 0 to {num_rows - 1}, not {key}')
    return int(key)
