"""Objects in a folder with one `.npz` per picture: MILVLG bottom-up-attention.pytorch, xmodaler."""

import collections
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from stg_jax.errors import UserError
from stg_jax.feature_files.base import Closing, Objects, as_steps, check_width
from stg_jax.feature_files.objects import (
    BOXLESS,
    TIMELESS,
    Fit,
    build_objects,
    group_images,
    stack_steps,
)

# What video_features calls its outputs; times and rates lie beside the features.
_FACTS = ('fps', 'timestamps_ms')
_FEATURES = ('rgb', 'flow', 'r21d', 's3d', 'resnet', 'clip', 'timm', 'raft', 'vggish')


class NpyFolder(Closing):
    """`<clip>.npy` (steps, D) or (D,): xiadingZ, xmodaler, SFTCap; or `<clip>_<name>.npy`.

    Args:
      path: of the folder.
      name: of the features among several that video_features wrote; None where it is plain.
    """

    warnings = ()

    def __init__(self, path: str, name: str | None = None):
        stems = sorted(file.stem for file in Path(path).glob('*.npy'))
        name = name or _only_name(path, stems)
        self.path = path
        self.family = 'folder of .npy (xiadingZ, xmodaler, SFTCap)'
        self._ending = '.npy'
        if name:
            self.family = f'folder of video_features outputs ({name})'
            self._ending = f'_{name}.npy'
            stems = [stem.removesuffix(f'_{name}') for stem in stems if stem.endswith(f'_{name}')]
        if not stems:
            raise UserError(f'{path} holds no <clip>{self._ending}')
        self.keys = stems
        self.width = self._read(stems[0], None).shape[-1]

    def read(self, key: str) -> np.ndarray:
        """Return (S, D) float32 features of a clip, see `FrameSource`."""
        return self._read(key, self.width)

    def _read(self, key: str, width: int | None) -> np.ndarray:
        file = Path(self.path) / f'{key}{self._ending}'
        return as_steps(load(file), str(file), width)


def load(file: Path) -> np.ndarray:
    """Read an array that is no pickle.

    Raises:
      UserError: it is missing, damaged or a pickle.
    """
    try:
        return np.load(file, allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f'{file} does not exist: choose another clip or folder') from None
    except (ValueError, EOFError, OSError) as error:
        raise UserError(
            f'{file} is no complete array of numbers ({error}): convert or copy it again'
        ) from None


def _only_name(path: str, stems: Iterable[str]) -> str | None:
    """Return which outputs of video_features are features, None if there are no outputs of it."""
    clips = collections.defaultdict(list)
    for stem in stems:
        ending = next((name for name in (*_FACTS, *_FEATURES) if stem.endswith(f'_{name}')), None)
        if ending is None:
            return None
        clips[ending].append(stem)
    names = [name for name in clips if name not in _FACTS]
    if len(names) != 1:
        raise UserError(
            f'{path} holds {" and ".join(names) or "no"} features: choose some by writing '
            f'{path}:{names[0] if names else "rgb"}'
        )
    return names[0]


_FEATURES_NPZ = ('x', 'features', 'feat')
_BOXES = ('bbox', 'boxes')
# Others are not even read: MILVLG's `info` is a pickle.
_WANTED = {*_FEATURES_NPZ, *_BOXES, 'num_bbox', 'image_h', 'image_w'}


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
        feature, box = _first(arrays, _FEATURES_NPZ), _first(arrays, _BOXES)
        if feature is None or feature.ndim != 2:
            raise UserError(f'{file} holds no features (n, D) called {" or ".join(_FEATURES_NPZ)}')
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
