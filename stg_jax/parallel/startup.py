"""Join the processes of a pod, and recognize the loss of one."""

import collections

import jax
import numpy as np

from stg_jax.errors import UserError, first_line
from stg_jax.parallel.processes import of_all_hosts
from stg_jax.parallel.sharding import ballot, data_mesh

LOST_AFTER = 30  # seconds without a heartbeat until a process counts as lost


def join(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Make this process one of many; arguments that are None are detected from the cluster.

    From then on the loss of one process ends all others within about `LOST_AFTER` seconds.

    Raises:
      UserError: the cluster cannot be detected, or not all processes connect.
    """
    # The service would take SIGTERM, the signal on which training saves and stops.
    jax.config.update('jax_enable_preemption_service', False)
    try:
        jax.distributed.initialize(
            coordinator, num_processes, process_id, heartbeat_timeout_seconds=LOST_AFTER
        )
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f'--multihost: the processes did not find each other ({first_line(error)}); outside '
            'of TPU pods, Slurm, MPI and Kubernetes, start every one with --coordinator=HOST:PORT '
            '--num_processes=N --process_id=I'
        ) from None
    counts = collections.Counter(device.process_index for device in jax.devices())
    if len(set(counts.values())) > 1:
        raise UserError(f'the processes have unequal numbers of devices: {dict(counts)}')
    # Gloo lets processes connect for half a minute after the first one tries. Connect
    # now: later, after compilations that take longer on one host, they could miss each other.
    of_all_hosts(np.zeros(1))
    jax.block_until_ready(ballot(data_mesh())(False))


def is_lost_connection(error: BaseException) -> bool:
    """Whether an error means that the connection to another process was lost."""
    return isinstance(error, jax.errors.JaxRuntimeError) or 'Gloo' in str(error)
