"""Run a Keras model on pictures as one compiled JAX program of one batch shape."""

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from stg_jax.errors import UserError, first_line
from stg_jax.extract.keras.backend import import_keras_hub
from stg_jax.extract.letterbox import Fit

if TYPE_CHECKING:
    import keras

_SIDE = 224  # of pictures where neither the model nor its preset says so


@dataclasses.dataclass(frozen=True)
class PictureFormat:
    """What a preset asks of its pictures.

    Attributes:
      size: height and width in pixels.
      fit: 'centre' where the preset keeps the aspect and pads, else 'stretch': a preset that crops
        would not see all of a frame.
      scale: factor of pixels in 0 to 255, a number or one for each channel.
      offset: what is added after that.
    """

    size: tuple[int, int]
    fit: Fit
    scale: np.ndarray
    offset: np.ndarray

    def normalise(self, pictures: jax.Array) -> jax.Array:
        """Return (..., h, w, 3) uint8 pictures as the model wants them, float32."""
        return pictures.astype(jnp.float32) * self.scale + self.offset


def load_preset(kind: str, preset: str) -> 'keras.Model':
    """Return a model with its weights.

    Args:
      kind: class of `keras_hub.models`, which finds the right subclass.
      preset: name that Keras Hub knows or downloads (kaggle://, hf://), or a folder.

    Raises:
      UserError: there is no such preset, it is broken or of another kind, or the download fails.
    """
    check_preset(kind, preset)
    model_class = getattr(import_keras_hub().models, kind)
    try:
        return model_class.from_preset(preset)
    # What the library, its downloaders and a broken file raise; TypeError is a task without head.
    except (OSError, ValueError, TypeError, KeyError, ImportError) as error:
        raise UserError(
            f"'{preset}' cannot be loaded as Keras Hub {kind} ({first_line(error)}): name a "
            'preset of that kind, and check the connection if it must be downloaded'
        ) from None


def check_preset(kind: str, preset: str) -> None:
    """Refuse a preset that is neither known nor a folder of one, without loading it.

    Raises:
      UserError: there is no such preset. One of another kind is found only by `load_preset`.
    """
    _check_name(preset, getattr(import_keras_hub().models, kind).presets)


def picture_format(preset: str, image_shape: tuple[int | None, ...]) -> PictureFormat:
    """Return what the image converter of a preset asks for.

    Without a converter pictures are scaled to 0-1, of 224 x 224 pixels unless the model is built
    for one size.

    Args:
      preset: that `load_preset` has loaded.
      image_shape: height, width and channels that the model is built for, None where any.
    """
    converter = _load_converter(preset)
    size = image_shape[:2]
    if None in size:
        size = getattr(converter, 'image_size', None) or (_SIDE, _SIDE)
    if converter is None:
        return PictureFormat(tuple(size), 'stretch', np.float32(1 / 255), np.float32(0))
    return PictureFormat(
        size=tuple(size),
        fit='centre' if converter.pad_to_aspect_ratio else 'stretch',
        scale=np.float32(1 if converter.scale is None else converter.scale),
        offset=np.float32(0 if converter.offset is None else converter.offset),
    )


def compute_in(dtype: str, model: 'keras.Model') -> None:
    """Let a loaded model compute in 'float32' or 'bfloat16'; its weights stay as they are."""
    if dtype == 'bfloat16':
        # `from_preset(dtype=...)` does not reach models within models, and nothing public reaches
        # the layers within layers.
        for layer in model._flatten_layers():
            layer.dtype_policy = 'mixed_bfloat16'


def _check_name(preset: str, known: dict[str, dict]) -> None:
    """Tell a mistyped name from everything else that can go wrong."""
    if Path(preset).is_dir():
        if not (Path(preset) / 'config.json').is_file():
            raise UserError(
                f'the folder {preset} holds no Keras Hub preset (config.json is missing): name a '
                'folder written by save_to_preset'
            )
    elif preset not in known and '://' not in preset:
        close = difflib.get_close_matches(preset, known, n=3)
        hint = f': did you mean {" or ".join(close)}?' if close else ', nor such a folder'
        raise UserError(f"Keras Hub has no preset '{preset}' of this kind{hint}")


def _load_converter(preset: str) -> 'keras.layers.Layer | None':
    converter_class = import_keras_hub().layers.ImageConverter
    try:
        return converter_class.from_preset(preset)
    # No file, or no converter for this kind of model.
    except (FileNotFoundError, ValueError):
        return None


if TYPE_CHECKING:
    import keras


class KerasProgram:
    """A model with the arithmetic before and after it.

    Args:
      model: takes one batch of normalised pictures.
      pictures: how they are normalised.
      finish: from the model's outputs to arrays of one row for each picture.
      batch_size: pictures a batch.
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
            outputs, _ = model.stateless_call(*variables, inputs, training=False)
            return finish(outputs)

        self._program = jax.jit(program)
        # Weights are arguments: as constants they would be compiled into the program.
        self._variables = [
            [variable.value for variable in group]
            for group in (model.trainable_variables, model.non_trainable_variables)
        ]
        self._batch_size = batch_size

    def shapes(self, picture_shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Return the shape of each array that `run` returns, without the axis of the pictures."""
        batch = jax.ShapeDtypeStruct((self._batch_size, *picture_shape), np.uint8)
        return [array.shape[1:] for array in jax.eval_shape(self._program, self._variables, batch)]

    def run(self, pictures: Iterable[np.ndarray]) -> list[np.ndarray]:
        """Return what `finish` returns for one or more uint8 pictures, all of one shape.

        The last batch repeats its last picture, so that the model is compiled once and what it
        returns for a picture does not depend on how many there are.
        """
        pictures, parts = iter(pictures), []
        while group := list(islice(pictures, self._batch_size)):
            batch = np.stack(group + group[-1:] * (self._batch_size - len(group)))
            arrays = self._program(self._variables, batch)
            parts.append([np.asarray(array)[: len(group)] for array in arrays])
        return [np.concatenate(part) for part in zip(*parts, strict=True)]
