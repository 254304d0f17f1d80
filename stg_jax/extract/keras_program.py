"""Run a Keras model on pictures as one compiled JAX program of one batch shape."""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from stg_jax.extract.keras_preset import PictureFormat

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
