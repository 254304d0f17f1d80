"""Frame features in a folder with one `.npy` per clip, also as video_features writes them."""

import collections
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from stg_jax.data.importers.checks import as_steps
from stg_jax.data.importers.sources import Closing
from stg_jax.errors import UserError

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
