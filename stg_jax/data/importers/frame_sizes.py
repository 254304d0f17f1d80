"""Frame sizes in a file of their own, as SAAT and CST keep them (`*_fr_size.h5`)."""

import h5py

from stg_jax.data.importers import hdf5
from stg_jax.data.importers.checks import as_numbers
from stg_jax.errors import UserError

UNKNOWN = (0, 0)


def frame_size(sizes: h5py.File | None, key: str) -> tuple[int, int]:
    """Return (height, width) in pixels of a clip, `UNKNOWN` where there is no such entry.

    Args:
      sizes: clip to (height, width) or (height, width, channels); None for no file.
      key: of the clip.

    Raises:
      UserError: the entry is no size.
    """
    if sizes is None or not hdf5.holds(sizes, key):
        return UNKNOWN
    where = f'{sizes.filename}: {key}'
    size = as_numbers(hdf5.read(hdf5.dataset(sizes, key)), where)
    if size.shape not in ((2,), (3,)) or size.min() < 1:
        raise UserError(f'{where} is no frame size, expected (height, width[, channels]) in pixels')
    return int(size[0]), int(size[1])
