"""Embed frames with an exported image network."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from stg_jax.errors import UserError
from stg_jax.extract.letterbox import resize
from stg_jax.extract.onnx.normalization import IMAGENET, find_geometry, find_pixel_format
from stg_jax.extract.onnx.session import OnnxModel

# Pixels, if neither the file nor its settings fix the size.
_SIDE = 224
# Class and register tokens of a transformer.
_MOST_PREFIX_TOKENS = 8

Outputs = Mapping[str, np.ndarray]  # of one picture, by name
ToMap = Callable[[np.ndarray], np.ndarray]


class OnnxFrameEncoder:
    """An image network in an ONNX file, with its axes in any order.

    The embedding is the output `image_embeds` or `pooler_output`, else the first output with a
    single long axis, else the mean of the map. The map is the last output of shape (C, h, w),
    (h, w, C) or, for a transformer, (h * w, C) behind class and register tokens. Frames are
    stretched, never cropped; pixels are scaled like ImageNet's unless the file says otherwise, see
    `normalization.find_pixel_format` and `normalization.find_geometry`.

    Args:
      path: ONNX file.
      batch_size: frames per call, unless the file fixes it.

    Raises:
      UserError: the file cannot be run, gives neither an embedding nor a map, or its settings ask
        for pictures that are not made here.
    """

    def __init__(self, path: str | os.PathLike[str], *, batch_size: int):

        def free_size() -> tuple[int, int]:
            return find_geometry(Path(path), has_free_size=True).size or (_SIDE, _SIDE)

        self._model = OnnxModel(path, batch_size=batch_size, free_size=free_size)
        self._is_sharp = find_geometry(self._model.path, has_free_size=False).is_sharp
        self._pixels = find_pixel_format(self._model.path, self._model.metadata, IMAGENET)
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
        """See `base.FrameEncoder`."""
        embedding = np.empty((len(frames), self.width), np.float32)
        maps = (
            None
            if self._map_shape is None
            else np.empty((len(frames), *self._map_shape), np.float32)
        )
        pictures = (resize(frame, self._model.size, is_sharp=self._is_sharp) for frame in frames)
        for f, outputs in enumerate(self._model.run(pictures, pixels=self._pixels)):
            embedding[f], cells = self._read(outputs)
            if maps is not None:
                maps[f] = cells
        return embedding, maps

    def _read(self, outputs: Outputs) -> tuple[np.ndarray, np.ndarray | None]:
        """Read the embedding (D,) and the map (h, w, C) of a picture."""
        cells = None if self._map is None else self._to_map(outputs[self._map])
        if self._embedding is None:
            assert cells is not None  # checked when the file was opened
            return cells.mean(axis=(0, 1)), cells
        return outputs[self._embedding].ravel(), cells


def _find_embedding(outputs: Outputs) -> str | None:
    """Name the output that embeds the whole picture, None if there is none."""
    flat = [name for name, value in outputs.items() if _is_flat(value)]
    # Names that Hugging Face gives to embeddings; logits of a classifier are flat, too.
    for name in ('image_embeds', 'pooler_output', *flat):
        if name in flat:
            return name
    return None


def _is_flat(value: np.ndarray) -> bool:
    return value.size == max(value.shape, default=0)


def _find_map(outputs: Outputs, size: tuple[int, int]) -> tuple[str | None, ToMap]:
    """Name the output that is a map, and give the function that makes it (h, w, C)."""
    # From the last: intermediate maps, if exported, come before the final one.
    for name, value in reversed(list(outputs.items())):
        if value.ndim == 3 and not _is_flat(value):
            return name, _channels_last(value.shape, size)
        if value.ndim == 2 and (grid := _token_grid(len(value), size)):
            return name, _tokens_to_map(*grid)
    return None, np.asarray


def _channels_last(shape: tuple[int, ...], size: tuple[int, int]) -> ToMap:
    """Move the channels of a map last: the other two axes have the aspect ratio of the input."""
    first = shape[1] * size[1] == shape[2] * size[0]
    last = shape[0] * size[1] == shape[1] * size[0]
    if last and not first:
        return np.asarray
    return lambda cells: np.moveaxis(cells, 0, -1)


def _tokens_to_map(rows: int, columns: int) -> ToMap:
    return lambda tokens: tokens[-rows * columns :].reshape(rows, columns, -1)


def _token_grid(num_tokens: int, size: tuple[int, int]) -> tuple[int, int] | None:
    """Find rows and columns of a transformer's patches, None if the tokens are not patches."""
    found = []
    # Several patch sizes may fit; the fewest extra tokens decide.
    for patch in range(1, min(size)):
        rows, columns = size[0] // patch, size[1] // patch
        prefix = num_tokens - rows * columns
        if size[0] % patch == size[1] % patch == 0 and 0 <= prefix <= _MOST_PREFIX_TOKENS:
            found.append((prefix, rows, columns))
    _, rows, columns = min(found, default=(0, 0, 0))
    return (rows, columns) if found else None
