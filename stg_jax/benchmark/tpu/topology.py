"""Open the TPU compiler on a machine without a TPU."""

import importlib.util
import os
from typing import Any

from stg_jax.benchmark.tpu.chips import Topology
from stg_jax.errors import UserError

# Read once, when the library is loaded: no search for a TPU and its hosts.
_ENVIRONMENT = {
    'JAX_PLATFORMS': 'cpu',
    'TPU_SKIP_MDS_QUERY': '1',
    'TPU_WORKER_HOSTNAMES': 'localhost',
    'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
}


def without_tpu() -> None:
    """Prepare this process, which has not imported JAX yet, for compiling without a TPU.

    Raises:
      UserError: the compiler is not installed.
    """
    if importlib.util.find_spec('libtpu') is None:
        raise UserError(
            'the TPU compiler is not installed: in an environment of its own, as it makes every '
            "start of JAX look for a TPU, run pip install -e '.[tpu]'"
        )
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def topology_mesh(topology: Topology) -> Any:
    """Return the mesh of a slice that is not there, to compile for.

    Raises:
      UserError: the compiler knows no such slice.
    """
    from jax.experimental import topologies

    from stg_jax.parallel.sharding import AXIS

    try:
        described = topologies.get_topology_desc(
            platform='tpu',
            topology_name=str(topology),
            chips_per_host_bounds=topology.host_bounds,
            chip_config_name=topology.chip.chip_config,
        )
    except RuntimeError as error:
        message = str(error).splitlines()[0]
        raise UserError(f'--topology {topology}: the compiler says {message}') from None
    return topologies.make_mesh(described, (topology.num_chips,), (AXIS,))
