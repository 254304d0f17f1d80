"""Joining the processes of a pod, and noticing that one of them is lost."""

import collections

import jax
import numpy as np

from stg_jax.errors import UserError, first_line
from stg_jax.parallel.processes import of_all_hosts
from stg_jax.parallel.sharding import ballot, data_mesh

LOST_AFTER = 30  # seconds without a sign of life, after which a process counts as lost


def join(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Make this process one of many; what is None is found out from the cluster.

    From then on a process that is lost ends all others within about `LOST_AFTER` seconds.

    Raises:
      UserError: the cluster does not say who is who, or not all processes come.
    """
    # Off: it would take the signal that StopRequest waits for.
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
    # Gloo gives processes half a minute to connect: now, not after one has compiled for longer.
    of_all_hosts(np.zeros(1))
    jax.block_until_ready(ballot(data_mesh())(False))


def is_lost_connection(error: BaseException) -> bool:
    """Return whether an error says that another process does not answer any more."""
    return isinstance(error, jax.errors.JaxRuntimeError) or 'Gloo' in str(error)
