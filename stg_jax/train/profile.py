"""Record a profiler trace of a few steps: where their time goes, on the host and the devices."""

from pathlib import Path

import jax

from stg_jax.config import ProfileConfig


class StepTrace:
    """Traces the steps that `config.profile` selects into a folder.

    TensorBoard's profile plugin (xprof) and Perfetto read it.
    """

    def __init__(self, folder: Path, config: ProfileConfig):
        self._folder = folder
        # Steps are counted from 1, so a start of 0 traces nothing.
        self._first = config.start
        self._last = config.start + config.steps - 1
        self._tracing = False

    def before(self, steps: range) -> None:
        """Start the trace if its first step is among those about to be dispatched."""
        if self._first in steps and self._first <= self._last:
            jax.profiler.start_trace(self._folder, create_perfetto_trace=True)
            self._tracing = True

    def after(self, steps: range, results: object) -> bool:
        """Stop the trace after its last step, once its `results` are there; True if stopped."""
        if not self._tracing or steps[-1] < self._last:
            return False
        self.close(results)
        return True

    def close(self, results: object = ()) -> None:
        """Stop the trace early, if the run ends before its last step."""
        if self._tracing:
            self._tracing = False
            # Dispatch is asynchronous: without waiting, the trace would end before the steps do.
            jax.block_until_ready(results)
            jax.profiler.stop_trace()
