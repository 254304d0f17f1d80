"""Read the tensors of a PyTorch file without PyTorch and without unpickling.

`torch.save` before PyTorch 1.6 wrote five pickles (a magic number, the version, facts about the
machine, the object, and the keys of its storages), then for each storage its length and its bytes.
This module interprets the pickles, with only the opcodes that dictionaries of tensors need: no
class is looked up and nothing is called, whatever a file asks for.
"""

import os
import pickletools
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from stg_jax.errors import UserError, first_line

_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {
    'torch FloatStorage': np.dtype('<f4'),
    'torch LongStorage': np.dtype('<i8'),
}
_DICT, _TENSOR = 'collections OrderedDict', 'torch._utils _rebuild_tensor_v2'
_MARK = object()


class _Name(NamedTuple):
    """The name of a class or function in a pickle; it is never looked up."""

    text: str


class _Storage(NamedTuple):
    """A flat array whose bytes follow later in the file."""

    key: str
    dtype: np.dtype
    length: int


class _Tensor(NamedTuple):
    """A view of a storage: element (i, j, ...) is at offset + i * stride[0] + j * stride[1] ..."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def read_tensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read a dictionary of tensors, such as the state of a PyTorch module.

    Raises:
      UserError: the file is missing, is damaged, or holds anything but such a dictionary.
    """
    path = Path(path)
    try:
        with path.open('rb') as file:
            return _read(file, path)
    except UserError:
        raise
    except Exception as error:  # of many types, depending on which byte is damaged
        raise UserError(
            f'{path} is not a readable PyTorch file ({first_line(error)}): install it again'
        ) from None


def _read(file: IO[bytes], path: Path) -> dict[str, np.ndarray]:
    if _load(file) != _MAGIC:
        raise UserError(f'{path} is no PyTorch file of tensors from before version 1.6')
    for _ in range(2):  # the version, and the sizes of integers where it was written
        _load(file)
    tensors, keys = _load(file), _load(file)
    if not isinstance(tensors, dict) or not all(isinstance(x, _Tensor) for x in tensors.values()):
        raise UserError(f'{path} holds no dictionary of tensors')
    storage_of = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    values = {key: _read_storage(file, storage_of[key]) for key in keys}
    return {name: _view(tensor, values) for name, tensor in tensors.items()}


def _read_storage(file: IO[bytes], storage: _Storage) -> np.ndarray:
    length = int.from_bytes(file.read(8), 'little')
    if length != storage.length:
        raise ValueError(f'storage {storage.key} has {length} numbers, expected {storage.length}')
    return np.frombuffer(file.read(length * storage.dtype.itemsize), storage.dtype, length)


def _view(tensor: _Tensor, values: Mapping[str, np.ndarray]) -> np.ndarray:
    flat = values[tensor.storage.key]
    # Strides of a damaged file could point anywhere in memory.
    lengths = zip(tensor.shape, tensor.stride, strict=True)
    last = tensor.offset + sum((size - 1) * stride for size, stride in lengths)
    numbers = (tensor.offset, *tensor.shape, *tensor.stride)
    if min(numbers) < 0 or 0 in tensor.shape or last >= len(flat):
        raise ValueError(f'a tensor {tensor.shape} reaches beyond its storage of {len(flat)}')
    stride = tuple(each * flat.itemsize for each in tensor.stride)
    return np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, stride)


def _load(file: IO[bytes]) -> Any:
    """Interpret one pickle, up to its end.

    Raises:
      ValueError: it has an opcode, or names a class, that dictionaries of tensors do not need.
    """
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    for op, value, _ in pickletools.genops(file):
        match op.name:
            case 'PROTO':
                pass
            case 'STOP':
                return stack.pop()
            case 'BINPUT' | 'LONG_BINPUT':
                memo[value] = stack[-1]
            case 'BINGET' | 'LONG_BINGET':
                stack.append(memo[value])
            case _:
                _apply(op.name, value, stack)
    raise ValueError('a pickle without an end')


_CONSTANTS = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False, 'MARK': _MARK, 'EMPTY_TUPLE': ()}
_VALUES = ('BINUNICODE', 'BININT', 'BININT1', 'BININT2', 'LONG1')
_TUPLES = {'TUPLE1': 1, 'TUPLE2': 2, 'TUPLE3': 3}


def _apply(op: str, value: Any, stack: list[Any]) -> None:
    """Apply one opcode to the stack."""
    match op:
        case _ if op in _VALUES:
            stack.append(value)
        case _ if op in _CONSTANTS:
            stack.append(_CONSTANTS[op])
        case _ if op in _TUPLES:
            stack[-_TUPLES[op] :] = [tuple(stack[-_TUPLES[op] :])]
        case 'EMPTY_DICT':
            stack.append({})
        case 'EMPTY_LIST':
            stack.append([])
        case 'TUPLE':
            stack.append(tuple(_pop_to_mark(stack)))
        case 'APPENDS':
            items = _pop_to_mark(stack)
            stack[-1].extend(items)
        case 'SETITEM':
            item, key = stack.pop(), stack.pop()
            stack[-1][key] = item
        case 'SETITEMS':
            items = _pop_to_mark(stack)
            stack[-1].update(zip(items[::2], items[1::2], strict=True))
        case 'GLOBAL':
            stack.append(_Name(value))
        case 'BINPERSID':
            stack.append(_storage(*stack.pop()))
        case 'REDUCE':
            arguments = stack.pop()
            stack.append(_rebuild(stack.pop(), arguments))
        case 'BUILD':
            stack.pop()  # versions of the layers, which are attributes of the dictionary
        case _:
            raise ValueError(f'it has the opcode {op}, which tensors do not need')


def _pop_to_mark(stack: list[Any]) -> list[Any]:
    items = []
    while (item := stack.pop()) is not _MARK:
        items.append(item)
    return items[::-1]


def _storage(kind: str, dtype: _Name, key: str, place: str, length: int, view: None) -> _Storage:
    if kind != 'storage' or view is not None:
        raise ValueError(f'it refers to {kind}, expected a storage')
    return _Storage(key, _DTYPES[dtype.text], length)


def _rebuild(name: _Name, arguments: tuple) -> Any:
    if name.text == _DICT and not arguments:
        return {}
    if name.text == _TENSOR:
        storage, offset, shape, stride, *_ = arguments
        return _Tensor(storage, offset, shape, stride)
    raise ValueError(f'it calls {name.text}, which tensors do not need')
