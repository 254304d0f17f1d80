"""Receive untrusted uploads: write the body of a request to a file, and read features from it."""

import asyncio
import contextlib
import math
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import HTTPException, Request
from starlette.requests import ClientDisconnect

from stg_jax.config import DataConfig
from stg_jax.data.clip import Clip, check_clip, no_objects
from stg_jax.decode.captioner import Captioner
from stg_jax.errors import UserError
from stg_jax.extract.video.untrusted import Limits
from stg_jax.feature_files.numpy_folders import read_npz
from stg_jax.run.build import feature_shapes

GONE = 499  # the client left; nobody reads this status, but the metrics count it
_WIDEST, _HEADER = 8, 4096  # maximum bytes of a number, and of the header of an array


@contextlib.asynccontextmanager
async def received(request: Request, name: str, limits: Limits) -> AsyncIterator[Path]:
    """Write the body of a request to a file, which is deleted after the block.

    Args:
      request: its body is read as it arrives, up to the limits.
      name: the name of the file, also in messages.
      limits: of the size of the body, and of the seconds that it may take to arrive.

    Raises:
      HTTPException: the body is too large, or does not arrive in time.
    """
    with tempfile.TemporaryDirectory(prefix='stg_serve_') as folder:
        path = Path(folder, name)
        try:
            async with asyncio.timeout(limits.patience):
                await _write(request, path, limits.megabytes)
        except TimeoutError:
            raise HTTPException(
                408, f'the {name} took more than {limits.patience:g} s to arrive: send less'
            ) from None
        except ClientDisconnect:
            raise HTTPException(GONE) from None
        yield path


async def _write(request: Request, path: Path, megabytes: float) -> None:
    num_bytes = 0
    with path.open('wb') as file:
        async for part in request.stream():
            num_bytes += len(part)
            # Counted, because the header Content-Length may be wrong or missing.
            if num_bytes > megabytes * 1e6:
                raise HTTPException(
                    413,
                    f'the {path.name} is larger than {megabytes:g} MB: cut it or make it smaller',
                )
            file.write(part)
    if not num_bytes:
        raise HTTPException(422, f'the {path.name} is empty: send it as the body of the request')


def read_features(path: Path, captioner: Captioner) -> Clip:
    """Read the features of one clip from an .npz of the arrays that `Captioner` reads.

    Args:
      path: the file, which is not trusted: nothing in it is unpickled.
      captioner: its run defines the shapes, its branch the arrays that are needed.

    Raises:
      UserError: an array is missing, has another shape than the run's, or holds no numbers.
    """
    data = captioner.run.config.data
    shapes = feature_shapes(data)
    # A small archive can unpack to any size.
    most = sum(math.prod(each.shape) * _WIDEST + _HEADER for each in shapes.values())
    arrays = read_npz(path, shapes.__contains__, most)
    for name, value in arrays.items():
        if value.shape != shapes[name].shape or value.dtype.kind not in 'fiub':
            raise UserError(
                f'{path}: {name} is {value.shape} of {value.dtype}, but this run reads numbers of '
                f'shape {shapes[name].shape}'
            )
    captioner.inputs({name: value[None] for name, value in arrays.items()})
    clip = as_clip(arrays, data)
    check_clip(clip)
    return clip


def as_clip(arrays: Mapping[str, np.ndarray], data: DataConfig) -> Clip:
    """Build a `Clip` from the arrays of one clip, without a batch axis; objects may be missing."""
    values: dict[str, Any] = no_objects(data.frames, data.objects, data.object_dim)
    values |= {
        name: np.asarray(value, bool if name == 'object_mask' else np.float32)
        for name, value in arrays.items()
    }
    present = values['object_mask']
    # The arrays have no scores and classes of detections. Features of absent objects must be zero.
    values['score'] = present.astype(np.float32)
    values['object'] = values['object'] * present[..., None]
    no_truth = np.zeros((data.frames, 0, 4), np.float32)
    return Clip(id='features', captions=(), true_box=no_truth, **values)
