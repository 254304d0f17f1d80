"""The platform that a program is being traced for, where the fastest way depends on it."""

import contextlib
import contextvars
from collections.abc import Iterator

import jax

_TARGET = contextvars.ContextVar('target', default=None)


@contextlib.contextmanager
def traced_for(platform: str) -> Iterator[None]:
    """Let what is traced meanwhile be for 'cpu', 'gpu' or 'tpu', whatever this machine has."""
    token = _TARGET.set(platform)
    try:
        yield
    finally:
        _TARGET.reset(token)


def is_for_cpu() -> bool:
    """Return whether it is for a CPU: by default where this process would run it."""
    return _platform() == 'cpu'


def is_for_gpu() -> bool:
    """Return whether it is for a GPU, in the same way."""
    return _platform() == 'gpu'


def _platform():
    return _TARGET.get() or jax.default_backend()
