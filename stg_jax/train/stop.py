"""Notice a request to stop, and agree among all hosts on the step after which to stop.

Clusters send SIGTERM to a run before they take its machines away. A host that stopped by itself
would leave the others waiting in a collective operation.
"""

import signal

from stg_jax.cli import signals
from stg_jax.parallel import processes, sharding


class StopRequest:
    """While entered, SIGTERM and the first Ctrl-C set `received` instead of ending the process."""

    def __init__(self):
        self.received = False

    def __enter__(self) -> 'StopRequest':
        """Install the handlers."""
        self._handlers = signals.on_stop(self._note)
        self._handlers.__enter__()
        return self

    def __exit__(self, *error) -> None:
        """Put the previous handlers back."""
        self._handlers.__exit__(*error)

    def _note(self) -> None:
        self.received = True
        signals.interrupt_on(signal.SIGINT)  # a second Ctrl-C means now


class JointStop:
    """The request of any host to stop, which all hosts notice after the same step.

    Each host casts a vote with every step and reads the result of the vote before, which is known
    by then, so that no host waits. A single host only looks at its own request.
    """

    def __init__(self, request: StopRequest, mesh: sharding.Mesh):
        self._request = request
        self._vote = sharding.ballot(mesh) if processes.num_hosts() > 1 else None
        self._cast = None

    def after_step(self) -> bool:
        """Whether to stop after the step that was dispatched last."""
        if self._vote is None:
            return self._request.received
        # One vote late, on all hosts alike: reading the vote of this step would wait for the step.
        result, self._cast = self._cast, self._vote(self._request.received)
        return result is not None and bool(result)

    def now(self) -> bool:
        """Whether any host has been asked to stop; waits for all hosts."""
        wish = self._request.received
        return wish if self._vote is None else bool(self._vote(wish))
