"""Host-level communication: all-gathered JSON values, and errors that reach every host.

Every function is called on all hosts, in the same order. With one host nothing is sent.
"""

import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from stg_jax.errors import UserError

PyTree = Any


def host() -> int:
    """Index of this process."""
    return jax.process_index()


def num_hosts() -> int:
    """Number of processes."""
    return jax.process_count()


def of_all_hosts(array: np.ndarray) -> np.ndarray:
    """Stack the arrays of all hosts, which must have the same shape, in the order of the hosts."""
    return multihost_utils.process_allgather(array)


def of_first_host(tree: PyTree) -> PyTree:
    """Broadcast the arrays of host 0; those of the other hosts give shapes and types."""
    if num_hosts() == 1:
        return tree

    def received(x: np.ndarray) -> np.ndarray:
        # As bytes, because the broadcast is a sum with zeros, which would turn -0.0 into 0.0 and
        # make a resumed run differ from an uninterrupted one.
        x = np.asarray(x)
        sent = multihost_utils.broadcast_one_to_all(np.frombuffer(x.tobytes(), np.uint8))
        return np.frombuffer(sent.tobytes(), x.dtype).reshape(x.shape)

    return jax.tree.map(received, tree)


def is_first() -> bool:
    """Whether this is host 0, the only one that writes files."""
    return host() == 0


def gather(value: Any) -> list[Any]:
    """Collect the JSON values of all hosts, in the order of the hosts."""
    if num_hosts() == 1:
        return [value]
    # Arrays of one length are all that the devices can exchange: pad to the longest.
    data = json.dumps(value).encode()
    lengths = of_all_hosts(np.array(len(data)))
    padded = np.zeros(lengths.max(), np.uint8)
    padded[: len(data)] = np.frombuffer(data, np.uint8)
    rows = of_all_hosts(padded)
    return [json.loads(row[:n].tobytes()) for row, n in zip(rows, lengths, strict=True)]


def together(fn: Callable[[], Any]) -> Any:
    """Call `fn` on every host and return the result of this one.

    Raises:
      UserError: `fn` raised one on any host. All hosts raise that of the first such host: a host
        that ended by itself would leave the others waiting in the next collective.
    """
    result, fault = _attempt(fn)
    _raise_first(gather(fault))
    return result


def one_host_at_a_time(fn: Callable[[], Any]) -> None:
    """Call `fn` on one host after the other, so that only the first of a shared disk does the work.

    Raises:
      UserError: `fn` raised one on any host.
    """
    for number in range(num_hosts()):
        together(fn if host() == number else lambda: None)


def on_first(fn: Callable[[], Any]) -> Any:
    """Call `fn` only on host 0 and return its JSON value on every host.

    Raises:
      UserError: `fn` raised one.
    """
    result, fault = _attempt(fn) if is_first() else (None, None)
    result, fault = gather([result, fault])[0]
    _raise_first([fault])
    return result


def _attempt(fn: Callable[[], Any]) -> tuple[Any, str | None]:
    try:
        return fn(), None
    except UserError as error:
        return None, str(error)


def _raise_first(faults: list[str | None]) -> None:
    for host, fault in enumerate(faults):
        if fault is not None:
            raise UserError(fault if len(faults) == 1 else f'host {host}: {fault}')
