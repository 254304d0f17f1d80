"""A trace of a few steps, for a profiler: where their time goes on the host and the devices."""

from pathlib import Path

import jax

from stg_jax.config import ProfileConfig


class StepTrace:
    """Trace the steps that `config.profile` names into a folder.

    TensorBoard's profile plugin (xprof) and Perfetto read it.
    """

    def __init__(self, folder: Path, config: ProfileConfig):
        self._folder = folder
        # No step is number 0: a start of 0 traces nothing.
        self._first = config.start
        self._last = config.start + config.steps - 1
        self._tracing = False

    def before(self, steps: range) -> None:
        """Begin the trace if its first step is among those that are about to be dispatched."""
        if self._first in steps and self._first <= self._last:
            jax.profiler.start_trace(self._folder, create_perfetto_trace=True)
            self._tracing = True

    def after(self, steps: range, results: object) -> bool:
        """End the trace once the `results` of its last step are there; True if that is now."""
        if not self._tracing or steps[-1] < self._last:
            return False
        self.close(results)
        return True

    def close(self, results: object = ()) -> None:
        """End the trace early where a run ends before it."""
        if self._tracing:
            self._tracing = False
            jax.block_until_ready(results)
            jax.profiler.stop_trace()
