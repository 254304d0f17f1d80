"""Frame features in HDF5: an array per clip, or one array with a row per clip."""

import h5py
import numpy as np

from stg_jax.errors import UserError
from stg_jax.feature_files import hdf5
from stg_jax.feature_files.base import Closing, as_steps, check_steps


class DatasetFrames(Closing):
    """An array (steps, D) or (D,) per clip: SGN, RecNet, SA-LSTM, HMN, CARE, NACF, CST."""

    family = 'HDF5, an array per clip (SGN, RecNet, HMN, CARE, CST)'
    warnings = ()

    def __init__(self, file: h5py.File, path: str):
        self.path = path
        self.keys = hdf5.clip_keys(file)
        self._file = file
        # Its shape alone: values that are damaged are the failure of one clip.
        first, _ = hdf5.first_entry(file)
        steps = hdf5.dataset(file, first)
        check_steps(steps, f'{path}: {first}')
        self.width = steps.shape[-1]

    def read(self, key: str) -> np.ndarray:
        """Return (S, D) float32 features of a clip, see `FrameSource`."""
        values = hdf5.read(hdf5.dataset(self._file, key))
        return as_steps(values, f'{self.path}: {key}', self.width)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class RowFrames(Closing):
    """`feats` (clips, steps, D) or (clips, D), with `lens` valid steps of each: RMN, GL-RG."""

    family = 'HDF5, a row per clip (RMN, GL-RG)'

    def __init__(self, file: h5py.File, path: str):
        self._file = file
        self._rows = hdf5.dataset(file, 'feats')
        if self._rows.ndim not in (2, 3) or not self._rows.size:
            raise UserError(
                f'{path}: feats has shape {self._rows.shape}, expected (clips, steps, D)'
            )
        self._lens = read_lens(file, path, len(self._rows))
        self.path = path
        self.width = self._rows.shape[-1]
        rows = range(len(self._rows))
        self.keys = [str(i) for i in rows if self._lens is None or self._lens[i] > 0]
        empty = len(self._rows) - len(self.keys)
        self.warnings = [f'{empty} rows have no valid step: left out'] if empty else []

    def read(self, key: str) -> np.ndarray:
        """Return (S, D) float32 features of the valid steps of a clip, see `FrameSource`."""
        row = row_number(self.path, key, len(self._rows))
        steps = hdf5.read(self._rows, row)
        if steps.ndim == 2 and self._lens is not None:
            steps = steps[: self._lens[row]]
        return as_steps(steps, f'{self.path}: row {key}')

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_lens(file: h5py.File, path: str, num_rows: int) -> np.ndarray | None:
    """Return the valid steps of each row, (clips,), None where the file does not say.

    Raises:
      UserError: they do not belong to the rows.
    """
    if not hdf5.holds(file, 'lens'):
        return None
    lens = hdf5.read(hdf5.dataset(file, 'lens')).reshape(-1).astype(np.int64)
    if len(lens) != num_rows:
        raise UserError(f'{path} has {num_rows} rows but {len(lens)} lens: write it again')
    return lens


def row_number(path: str, key: str, num_rows: int) -> int:
    """Return the row that a key names.

    Raises:
      UserError: there is no such row.
    """
    if not (key.isdecimal() and key.isascii() and int(key) < num_rows):
        raise UserError(f'{path} has rows 0 to {num_rows - 1}, not {key}')
    return int(key)
