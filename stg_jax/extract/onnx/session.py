"""Open an image network in an ONNX file and run it in batches of one shape."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stg_jax.errors import UserError, first_line
from stg_jax.extract.onnx.normalization import BYTES, PixelFormat

if TYPE_CHECKING:
    import onnxruntime

_DTYPES = {'tensor(float)': 'float32', 'tensor(float16)': 'float16', 'tensor(uint8)': 'uint8'}
# Detectors ask for the size to scale their boxes to, or for the mask of real pixels. Ones make the
# boxes fractions of the picture, and all of its pixels real.
_FILLED_WITH_ONES = {'orig_target_sizes', 'pixel_mask'}
# TensorRT builds engines for minutes at every start; Azure would send pictures to a server.
_UNWANTED = {'TensorrtExecutionProvider', 'AzureExecutionProvider'}


class OnnxModel:
    """A network with one image input, run by ONNX Runtime on the best available device.

    Attributes:
      path: the file.
      size: height and width of its input.
      metadata: written by the exporter, untrusted text.

    Args:
      path: ONNX file.
      batch_size: pictures per call, unless the file fixes it.
      free_size: finds height and width of the input where the file leaves one of them open.

    Raises:
      UserError: ONNX Runtime is not installed, or the file is missing, broken, or takes other
        inputs than pictures.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        batch_size: int,
        free_size: Callable[[], tuple[int, int]],
    ):
        self.path = Path(path)
        self._session, self._errors = _open_session(self.path)
        self.metadata = dict(self._session.get_modelmeta().custom_metadata_map)
        picture = self._picture_input()
        self._name, self._dtype = picture.name, _DTYPES[picture.type]
        # TensorFlow exports NHWC, PyTorch NCHW.
        self._channels_last = picture.shape[-1] == 3
        sides = picture.shape[1:3] if self._channels_last else picture.shape[2:]
        is_free = any(_fixed(n, 0) == 0 for n in sides)
        height, width = map(_fixed, sides, free_size() if is_free else (0, 0))
        self.size = height, width
        self._batch_size = _fixed(picture.shape[0], batch_size)
        self._constants = self._constant_inputs()

    def run(
        self, pictures: Iterable[np.ndarray], *, pixels: PixelFormat
    ) -> Iterator[dict[str, np.ndarray]]:
        """Yield the outputs of each picture by name, without the batch axis.

        Args:
          pictures: (*size, 3) uint8 RGB.
          pixels: format of the input; networks with uint8 input scale by themselves.

        Raises:
          UserError: the network fails on pictures of this size.
        """
        pictures = iter(pictures)
        while group := list(islice(pictures, self._batch_size)):
            outputs = self._run_batch(self._to_batch(group, pixels))
            for row in range(len(group)):
                yield {name: value[row] for name, value in outputs.items()}

    def try_out(self) -> dict[str, np.ndarray]:
        """Run the network on a grey picture, to learn the shapes and layout of its outputs."""
        return next(self.run([np.full((*self.size, 3), 114, np.uint8)], pixels=BYTES))

    def _picture_input(self) -> 'onnxruntime.NodeArg':
        pictures = [x for x in self._session.get_inputs() if len(x.shape) == 4]
        if len(pictures) != 1 or pictures[0].type not in _DTYPES:
            found = ', '.join(f'{x.name}: {x.type}' for x in self._session.get_inputs())
            raise UserError(
                f'{self.path} takes {found or "nothing"} and not one batch of pictures: name an '
                'exported image model'
            )
        return pictures[0]

    def _constant_inputs(self) -> dict[str, np.ndarray]:
        """Prepare the inputs other than the picture."""
        constants = {}
        for other in self._session.get_inputs():
            if other.name == self._name:
                continue
            if other.name not in _FILLED_WITH_ONES:
                raise UserError(
                    f"{self.path} needs an input '{other.name}' besides pictures: export only the "
                    'image part of the model'
                )
            free = (self._batch_size, *self.size)
            shape = [_fixed(n, free[axis]) for axis, n in enumerate(other.shape)]
            constants[other.name] = np.ones(shape, np.int64)
        return constants

    def _to_batch(self, group: list[np.ndarray], pixels: PixelFormat) -> np.ndarray:
        """Build a full batch in the network's own dtype and order of axes."""
        mean, std = np.array(pixels.mean, np.float32), np.array(pixels.std, np.float32)
        batch = np.zeros((self._batch_size, *self.size, 3), self._dtype)
        # Rows beyond the group stay zero: a fixed batch size is compiled and planned once.
        for row, picture in zip(batch, group, strict=False):
            if self._dtype == 'uint8':
                row[:] = picture
            else:
                row[:] = (picture - mean) / std
        batch = batch[..., ::-1] if pixels.order == 'bgr' else batch
        return np.ascontiguousarray(batch if self._channels_last else np.moveaxis(batch, -1, 1))

    def _run_batch(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        names = [output.name for output in self._session.get_outputs()]
        try:
            outputs = self._session.run(names, {self._name: batch, **self._constants})
        except self._errors as error:
            height, width = self.size
            raise UserError(
                f'{self.path} fails on {len(batch)} pictures of {width} x {height} pixels '
                f'({first_line(error)}): export it with fixed sizes'
            ) from None
        return {
            name: value.astype(np.float32) if value.dtype == np.float16 else value
            for name, value in zip(names, outputs, strict=True)
            # Outputs without the batch axis, such as anchors, describe no picture.
            if isinstance(value, np.ndarray) and value.shape[:1] == (len(batch),)
        }


def _open_session(
    path: Path,
) -> tuple['onnxruntime.InferenceSession', tuple[type[Exception], ...]]:
    """Open an ONNX file; also return the errors that ONNX Runtime raises."""
    try:
        import onnxruntime
        from onnxruntime.capi import (
            onnxruntime_pybind11_state as state,  # pyright: ignore[reportAttributeAccessIssue] - C
        )
    except ImportError:
        raise UserError(
            f"{path} needs ONNX Runtime, which is not installed: pip install -e '.[extract]'"
        ) from None
    if not path.is_file():
        raise UserError(f'{path} is missing or not a file: name an ONNX file')
    # ONNX Runtime has a dozen exceptions without a common base class.
    kinds = [x for x in vars(state).values() if isinstance(x, type)]
    errors = tuple(x for x in kinds if issubclass(x, Exception))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # warnings about the exporter do not help users
    # By default it pins threads to cores, even to those that a container may not use.
    options.intra_op_num_threads = _num_cores()
    # Threads that spin while waiting take the cores from the video decoder.
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    providers = [x for x in onnxruntime.get_available_providers() if x not in _UNWANTED]
    try:
        # It prints what fails before it raises it.
        with contextlib.redirect_stdout(None):
            session = onnxruntime.InferenceSession(path, options, providers=providers)
        # Names of a damaged file need not be UTF-8, which shows only when they are read.
        for value in (*session.get_inputs(), *session.get_outputs()):
            _ = value.name, value.shape, value.type
        _ = session.get_modelmeta().custom_metadata_map
        return session, errors
    except (UnicodeDecodeError, *errors) as error:
        raise UserError(
            f'{path} is not a readable ONNX model ({first_line(error)}): export it again'
        ) from None


def _fixed(length: int | str | None, default: int) -> int:
    """Return the length of an axis; free axes have a name, None or a number below 1."""
    return length if isinstance(length, int) and length > 0 else default


def _num_cores() -> int:
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
