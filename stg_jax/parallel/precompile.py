"""Compile programs side by side in background threads, before they are needed.

A first epoch needs a program for each batch size, and the validation two more. Compiled one after
the other, each when its first batch arrives, they keep the devices waiting: the first epoch of the
toy run took 107 s on two cores, and takes 88 s with this module.
"""

import concurrent.futures
import os
import time
from collections.abc import Callable
from typing import Any

import jax

PyTree = Any


class Precompiler:
    """Compiled programs of jitted functions, by the shapes of their last argument, a batch.

    The other arguments, such as parameters or a training state, must keep their shapes. Use it as
    a context manager, or call `close` at the end: threads of an open one keep the process alive.

    Args:
      on_wait: called whenever a call has to wait for its compilation.
    """

    def __init__(self, on_wait: Callable[[], None] = lambda: None):
        self._on_wait = on_wait
        self._seconds_waited = 0.0
        # One core is left to the input pipeline, which runs at the same time.
        num_threads = max(1, (os.cpu_count() or 1) - 1)
        self._threads = concurrent.futures.ThreadPoolExecutor(num_threads, 'compile')
        self._programs: dict[Any, concurrent.futures.Future] = {}

    def expect(self, jitted: Callable, *args: PyTree) -> None:
        """Start to compile `jitted` for these arrays or shapes; do not wait for it."""
        self._program(jitted, args)

    def call(self, jitted: Callable, *args: PyTree) -> PyTree:
        """Call `jitted` by its compiled program, which is waited for if need be."""
        return self._waited_for(self._program(jitted, args))(*args)

    def clock(self) -> float:
        """Read a clock in seconds that stands still while a call waits for its compilation."""
        return time.perf_counter() - self._seconds_waited

    def close(self) -> None:
        """Drop the compilations that have not started."""
        self._threads.shutdown(cancel_futures=True)

    def __enter__(self) -> 'Precompiler':
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _waited_for(self, program):
        if program.done():
            return program.result()
        self._on_wait()
        start = time.perf_counter()
        try:
            return program.result()
        finally:
            self._seconds_waited += time.perf_counter() - start

    def _program(self, jitted, args):
        # By the batch only: to hash a whole training state takes half a millisecond of host time,
        # as long as a tenth of a small step on a GPU.
        key = jitted, _key(args[-1])
        if key not in self._programs:
            shapes = jax.tree.map(_shape, args)
            self._programs[key] = self._threads.submit(_compiled, jitted, shapes)
        return self._programs[key]


def _compiled(jitted, shapes):
    return jitted.lower(*shapes).compile()


def _shape(x):
    # Not the array itself: a queued compilation would keep it in memory.
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)


def _key(batch):
    leaves, structure = jax.tree.flatten(batch)
    return structure, tuple((x.shape, x.dtype) for x in leaves)
