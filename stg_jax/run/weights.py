"""The parameters of an exported model: one safetensors file beside its config.

The names are the paths of the arrays in the tree, as in 'scene_encoder/fuse/kernel'. The metadata
holds the optimizer step, how the parameters were chosen, and a digest of them.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy
from etils import epath
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError

from stg_jax.errors import UserError, first_line
from stg_jax.files import write_file
from stg_jax.run.trees import describe_misfit, digest, shapes_by_name

PyTree = Any
NAME = 'model.safetensors'
_HEADER_BYTES = 2**22  # most of the header; that of any network here is a hundredth of it
_LONGEST_WHY = 300  # characters
_DIGITS = 18  # a step has fewer


def write_weights(path: str | os.PathLike[str], params: PyTree, *, step: int, why: str) -> None:
    """Write parameters, the step they were saved at, and one phrase on how they were chosen."""
    flat: dict[str, Any] = flatten_dict(params, sep='/')
    arrays = {name: np.ascontiguousarray(x) for name, x in flat.items()}
    metadata = {'format': 'stg_jax', 'step': str(step), 'why': why, 'digest': digest(arrays)}
    with write_file(path) as temporary:
        temporary.write_bytes(safetensors.numpy.save(arrays, metadata))


def read_weights(path: str | os.PathLike[str], params: PyTree) -> tuple[PyTree, int, str]:
    """Read a file of `write_weights`; the file is not trusted.

    Args:
      path: the file.
      params: arrays or shapes of the network's parameters.

    Returns:
      The parameters, their step, and how they were chosen.

    Raises:
      UserError: the file is damaged, or holds other arrays than the network has.
    """
    path = epath.Path(path)
    wanted: dict[str, Any] = flatten_dict(params, sep='/')
    arrays, metadata = _read(path, sum(x.size * x.dtype.itemsize for x in wanted.values()))
    found, expected = shapes_by_name(arrays), shapes_by_name(wanted)
    if misfit := describe_misfit(found, expected):
        raise UserError(
            f'{path} does not fit the network of its config.json ({misfit}): export the run again'
        )
    for name, array in arrays.items():
        if array.dtype != wanted[name].dtype:
            raise UserError(
                f'{path} holds {name} in {array.dtype}, but the network has '
                f'{wanted[name].dtype}: export the run again'
            )
    if metadata.get('digest') not in (None, digest(arrays)):
        raise UserError(f'{path} is damaged: bits have changed since it was written; copy it again')
    step = metadata.get('step', '')
    # Commands print it: control characters could rewrite what is on the terminal.
    why = ''.join(filter(str.isprintable, metadata.get('why', '')))[:_LONGEST_WHY]
    is_step = step.isascii() and step.isdecimal() and len(step) < _DIGITS
    return unflatten_dict(arrays, sep='/'), int(step) if is_step else 0, why


def _read(path: epath.Path, num_bytes: int) -> tuple[dict[str, np.ndarray], Mapping[str, str]]:
    """Read all arrays and the metadata of a file whose arrays take `num_bytes` bytes."""
    size = path.stat().length
    # Checked before reading, because an untrusted file must not fill the memory.
    if not num_bytes <= size <= num_bytes + _HEADER_BYTES:
        raise UserError(
            f'{path} has {size} bytes, but the parameters of its config.json take {num_bytes}: '
            'copy or export the model again'
        )
    data = path.read_bytes()
    try:
        arrays = safetensors.numpy.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], 'little')])
        return arrays, header.get('__metadata__', {})
    # KeyError: a data type that NumPy lacks.
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise UserError(
            f'{path} is not a readable safetensors file ({first_line(error)}): copy or export the '
            'model again'
        ) from None
