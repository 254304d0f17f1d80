"""Programs compiled side by side, and before they are needed."""

import concurrent.futures
import os
from collections.abc import Callable
from typing import Any

import jax

PyTree = Any


def compilers() -> concurrent.futures.Executor:
    """Return threads to compile in; one core, where there are more, is left to everything else."""
    return concurrent.futures.ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 1), 'compile')


class Ahead:
    """A jitted function that is told which arguments to expect, and compiled for these in threads.

    Only the shapes of the last argument, a batch, vary; others are a state or parameters.

    Args:
      jitted: the function.
      threads: from `compilers`.
    """

    def __init__(self, jitted: Callable, threads: concurrent.futures.Executor):
        self._jitted, self._threads = jitted, threads
        self._programs: dict[Any, concurrent.futures.Future] = {}

    def expect(self, *args: PyTree) -> None:
        """Begin to compile for arrays like these, or of these shapes; return at once."""
        self._program(args)

    def __call__(self, *args: PyTree) -> PyTree:
        """Call the program for these arguments, once it is compiled."""
        return self._program(args).result()(*args)

    def _program(self, args):
        # To look at a whole state takes half a millisecond, of the few of a small step on a GPU.
        key = _key(args[-1])
        if key not in self._programs:
            shapes = jax.tree.map(_shape, args)
            self._programs[key] = self._threads.submit(self._compiled, shapes)
        return self._programs[key]

    def _compiled(self, shapes):
        return self._jitted.lower(*shapes).compile()


def _shape(x):
    # Not the array itself, which would stay in memory until its program is compiled.
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)


def _key(batch):
    leaves, structure = jax.tree.flatten(batch)
    return structure, tuple((x.shape, x.dtype) for x in leaves)
