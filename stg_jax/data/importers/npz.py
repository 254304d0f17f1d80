"""Objects in a folder with one `.npz` per picture: MILVLG bottom-up-attention.pytorch, xmodaler."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from stg_jax.data.importers.checks import check_width
from stg_jax.data.importers.images import Fit, group_images
from stg_jax.data.importers.objects import BOXLESS, TIMELESS, build_objects, stack_steps
from stg_jax.data.importers.sources import Closing, Objects
from stg_jax.errors import UserError

_FEATURES = ('x', 'features', 'feat')
_BOXES = ('bbox', 'boxes')
# Others are not even read: MILVLG's `info` is a pickle.
_WANTED = {*_FEATURES, *_BOXES, 'num_bbox', 'image_h', 'image_w'}


class NpzFolder(Closing):
    """`<picture>.npz` with features, boxes in pixels and the frame size, see `group_images`."""

    family = 'folder of .npz (MILVLG bottom-up-attention, xmodaler)'

    def __init__(self, path: str, fit: Fit | None = None):
        self.path = path
        folder = Path(path)
        names = [file.relative_to(folder).with_suffix('') for file in folder.rglob('*.npz')]
        self._images = group_images(sorted(name.as_posix() for name in names), fit)
        self.keys = list(self._images)
        self.width = self._read_image(self._images[self.keys[0]][0], None).feature.shape[-1]
        first = _load(self._file(self._images[self.keys[0]][0]))
        without_time = all(len(images) == 1 for images in self._images.values())
        without_boxes = _first(first, _BOXES) is None
        self.warnings = [TIMELESS] * without_time + [BOXLESS] * without_boxes

    def read(self, key: str) -> Objects:
        """Return the objects of a clip, see `ObjectSource`."""
        if key not in self._images:
            raise UserError(f'{self.path} holds no {key}.npz: choose another clip or folder')
        return stack_steps([self._read_image(name, self.width) for name in self._images[key]])

    def _file(self, name: str) -> Path:
        return Path(self.path) / f'{name}.npz'

    def _read_image(self, name: str, width: int | None) -> Objects:
        file = self._file(name)
        arrays = _load(file)
        feature, box = _first(arrays, _FEATURES), _first(arrays, _BOXES)
        if feature is None or feature.ndim != 2:
            raise UserError(f'{file} holds no features (n, D) called {" or ".join(_FEATURES)}')
        num_boxes = arrays.get('num_bbox')
        number = int(num_boxes if num_boxes is not None else len(feature if box is None else box))
        # Some tools store (D, n), as the networks of their time took it.
        if feature.shape[1] == number != len(feature):
            feature = feature.T
        check_width(feature, str(file), width)
        return build_objects(
            str(file),
            feature[:number],
            None if box is None else box[:number],
            height=int(arrays.get('image_h', 0)),
            width=int(arrays.get('image_w', 0)),
        )


def _load(file: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files if name in _WANTED}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise UserError(f'{file} is no complete archive ({error}): copy it again') from None


def _first(arrays: Mapping[str, np.ndarray], names: tuple[str, ...]) -> np.ndarray | None:
    return next((arrays[name] for name in names if name in arrays), None)
