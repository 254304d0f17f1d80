"""Describe frames with any exported image network."""

import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from stg_jax.errors import UserError
from stg_jax.extract.letterbox import resize
from stg_jax.extract.onnx.normalization import IMAGENET, find_pixel_scale
from stg_jax.extract.onnx.session import OnnxModel

_SIDE = 224  # pixels, where the file takes any size
_MOST_PREFIX_TOKENS = 8  # class and register tokens of a transformer

Outputs = Mapping[str, np.ndarray]  # of one picture, by name
ToMap = Callable[[np.ndarray], np.ndarray]


class OnnxFrameEncoder:
    """An image network in an ONNX file, of any order of axes.

    The embedding is the output `image_embeds` or `pooler_output`, or else the first output with
    a single long axis, or else the mean of the map. The map is the last output of shape (C, h, w),
    (h, w, C) or, of a transformer, (h * w, C) behind class and register tokens. Frames are
    stretched; pixels are scaled as ImageNet's unless the file says otherwise, see
    `onnx_pixels.find_pixel_scale`.

    Attributes:
      width: channels of an embedding.
      map_width: channels of the map, 0 where there is none.

    Args:
      path: ONNX file.
      batch_size: frames a batch, unless the file fixes their number.

    Raises:
      UserError: the file cannot be run, or gives neither an embedding nor a map.
    """

    def __init__(self, path: str | os.PathLike[str], *, batch_size: int):
        self._model = OnnxModel(path, batch_size=batch_size, side=_SIDE)
        self._scale = find_pixel_scale(self._model.path, self._model.metadata, IMAGENET)
        outputs = self._model.try_out()
        self._embedding = _find_embedding(outputs)
        self._map, self._to_map = _find_map(outputs, self._model.size)
        if self._embedding is None and self._map is None:
            found = ', '.join(f'{key} {value.shape}' for key, value in outputs.items())
            raise UserError(
                f'{self._model.path} gives {found or "no batch"} for a picture, neither an '
                'embedding nor a feature map: name an exported image encoder'
            )
        embedding, cells = self._read(outputs)
        self.width = len(embedding)
        self.map_width = 0 if cells is None else cells.shape[-1]
        self._map_shape = None if cells is None else cells.shape

    def encode(self, frames: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
        """Return (F, width) float32 and (F, h, w, map_width) float32, see `parts.FrameEncoder`."""
        embedding = np.empty((len(frames), self.width), np.float32)
        maps = (
            None
            if self._map_shape is None
            else np.empty((len(frames), *self._map_shape), np.float32)
        )
        pictures = (resize(frame, self._model.size) for frame in frames)
        for f, outputs in enumerate(self._model.run(pictures, scale=self._scale)):
            embedding[f], cells = self._read(outputs)
            if maps is not None:
                maps[f] = cells
        return embedding, maps

    def _read(self, outputs: Outputs) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the embedding (D,) and the map (h, w, C) of a picture."""
        cells = None if self._map is None else self._to_map(outputs[self._map])
        if self._embedding is None:
            return cells.mean(axis=(0, 1)), cells
        return outputs[self._embedding].ravel(), cells


def _find_embedding(outputs: Outputs) -> str | None:
    """Return the name of the output that describes the whole picture, None where none does."""
    flat = [name for name, value in outputs.items() if _is_flat(value)]
    for name in ('image_embeds', 'pooler_output', *flat):
        if name in flat:
            return name
    return None


def _is_flat(value: np.ndarray) -> bool:
    return value.size == max(value.shape, default=0)


def _find_map(outputs: Outputs, size: tuple[int, int]) -> tuple[str | None, ToMap]:
    """Return the name of the output that is a map, and how it becomes (h, w, C)."""
    for name, value in reversed(outputs.items()):
        if value.ndim == 3 and not _is_flat(value):
            return name, _channels_last(value.shape, size)
        if value.ndim == 2 and (grid := _token_grid(len(value), size)):
            return name, _tokens_to_map(*grid)
    return None, np.asarray


def _channels_last(shape: tuple[int, ...], size: tuple[int, int]) -> ToMap:
    """Return what moves the channels of a map to the end: two of its axes have the aspect."""
    first = shape[1] * size[1] == shape[2] * size[0]
    last = shape[0] * size[1] == shape[1] * size[0]
    if last and not first:
        return np.asarray
    return lambda cells: np.moveaxis(cells, 0, -1)


def _tokens_to_map(rows: int, columns: int) -> ToMap:
    return lambda tokens: tokens[-rows * columns :].reshape(rows, columns, -1)


def _token_grid(num_tokens: int, size: tuple[int, int]) -> tuple[int, int] | None:
    """Return rows and columns of a transformer's patches, None where tokens are no patches."""
    found = []
    for patch in range(1, min(size)):
        rows, columns = size[0] // patch, size[1] // patch
        prefix = num_tokens - rows * columns
        if size[0] % patch == size[1] % patch == 0 and 0 <= prefix <= _MOST_PREFIX_TOKENS:
            found.append((prefix, rows, columns))
    return min(found)[1:] if found else None
