"""Set up the TPU compiler on a machine without a TPU."""

import importlib.util
import os
from typing import Any

from stg_jax.benchmark.tpu.chips import Topology
from stg_jax.errors import UserError

# libtpu reads these when it is loaded. They keep it from searching for a TPU and its hosts.
_ENVIRONMENT = {
    'JAX_PLATFORMS': 'cpu',
    'TPU_SKIP_MDS_QUERY': '1',
    'TPU_WORKER_HOSTNAMES': 'localhost',
    'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
}


def without_tpu() -> None:
    """Set up this process for compiling without a TPU; call it before JAX is imported.

    Raises:
      UserError: the compiler is not installed.
    """
    # Importing it would already initialise it.
    if importlib.util.find_spec('libtpu') is None:
        raise UserError(
            'the TPU compiler is not installed: in an environment of its own, as it makes every '
            "start of JAX look for a TPU, run pip install -e '.[tpu]'"
        )
    # setdefault: whoever has set them knows this machine better.
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def topology_mesh(topology: Topology) -> Any:
    """Build the mesh of a slice to compile for, without its hardware.

    Raises:
      UserError: the compiler does not know such a slice.
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
