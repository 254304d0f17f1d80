"""The platform a program is traced for, where the fastest form of an operation depends on it."""

import contextlib
import contextvars
from collections.abc import Iterator

import jax

# A context variable and not a global: programs are traced in several threads at once.
_PLATFORM: contextvars.ContextVar[str | None] = contextvars.ContextVar('platform', default=None)


@contextlib.contextmanager
def traced_for(platform: str) -> Iterator[None]:
    """Trace for 'cpu', 'gpu' or 'tpu' inside this context, whatever this machine has.

    Cross-compilation (a TPU program on a laptop) and the tests of tuned forms need it.
    """
    token = _PLATFORM.set(platform)
    try:
        yield
    finally:
        _PLATFORM.reset(token)


def is_for_cpu() -> bool:
    """Tell whether the trace is for a CPU; outside `traced_for` that is the default backend."""
    return _platform() == 'cpu'


def is_for_gpu() -> bool:
    """Tell whether the trace is for a GPU; outside `traced_for` that is the default backend."""
    return _platform() == 'gpu'


def _platform() -> str:
    return _PLATFORM.get() or jax.default_backend()
