"""Dispatch training steps to the devices, one or several at a time.

A small step keeps a GPU busy for less time than the host needs to dispatch it: 64 captions take an
H200 3.7 ms and the host 6.7 ms, most of which goes into looking at the hundreds of arrays of a
training state. With `train.steps_per_execution` the host does that once for several steps. By
default there is one step in each execution, and nothing here but `dispatch` concerns it.
"""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from stg_jax.model.network import DeviceBatch
from stg_jax.parallel import mapped
from stg_jax.parallel.precompile import Precompiler
from stg_jax.parallel.sharding import Mesh
from stg_jax.train.step import Metrics, TrainState

BatchShapes = Mapping[str, jax.ShapeDtypeStruct]


class Dispatcher:
    """Runs the steps of an execution on the devices of a mesh.

    Args:
      train_step: from `make_train_step`.
      mesh: of the devices.
      programs: compiles.
    """

    def __init__(self, train_step: Callable, mesh: Mesh, programs: Precompiler):
        self._programs = programs
        # A program of its own for single steps: stacking one batch would copy it for nothing.
        self._one = mapped.pmapped(train_step, mesh)
        self._several = mapped.pmapped(in_sequence(train_step), mesh)

    def dispatch(
        self, state: TrainState, batches: Sequence[DeviceBatch], ids: Sequence[np.ndarray]
    ) -> tuple[TrainState, Metrics]:
        """Start the steps of an execution; the arrays of `state` are donated.

        Args:
          state: before the steps.
          batches: one for each step.
          ids: clips of this host in each batch, which only self-critical steps need to know.

        Returns:
          The state after the last step, and metrics for `metrics_by_step`.
        """
        return self._programs.call(*self._program(batches, state))

    def expect(self, state: TrainState, batches: Sequence[BatchShapes]) -> None:
        """Start to compile the program for batches of these shapes."""
        self._programs.expect(*self._program(batches, state))

    def _program(self, batches, state):
        if len(batches) == 1:
            return self._one, state, batches[0]
        return self._several, state, tuple(batches)


def in_sequence(train_step: Callable) -> Callable:
    """Turn a step into `train_steps(state, batches)`, which takes a step on each of S batches.

    The metrics that it returns have a leading axis of steps S.
    """

    def train_steps(
        state: TrainState, batches: tuple[DeviceBatch, ...]
    ) -> tuple[TrainState, Metrics]:
        # A loop, not S copies of the step: compilation would take S times as long.
        stacked = jax.tree.map(lambda *x_S: jnp.stack(x_S), *batches)
        return jax.lax.scan(train_step, state, stacked)

    return train_steps


def metrics_by_step(metrics: Metrics) -> list[dict[str, float]]:
    """Wait for the metrics of an execution and return them for each of its steps."""
    # One transfer for all metrics, then slices on the host: slices on a device are programs.
    on_host = {key: np.atleast_1d(x) for key, x in jax.device_get(metrics).items()}
    return [
        {key: float(x_S[i]) for key, x_S in on_host.items()} for i in range(len(on_host['loss']))
    ]


def group_steps(first: int, end: int, most: int) -> list[range]:
    """Divide steps `first` to `end` into executions of `most` steps, and of single ones.

    Executions of several steps begin at multiples of `most`, so that a run that resumes after any
    execution has the same others as an undisturbed one. Steps that fill no execution are taken one
    by one: that takes one more program to compile, not one for each number of steps.
    """
    executions, step = [], first
    while step < end:
        is_whole = step % most == 0 and step + most <= end
        executions.append(range(step, step + most if is_whole else step + 1))
        step = executions[-1].stop
    return executions
