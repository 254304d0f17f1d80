"""The only room that knows of devices and processes.

Everything runs data parallel over one mesh axis: parameters are replicated, batches are split by
clips, and the per-device functions of `step.py` speak to each other through `psum` alone.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

AXIS = 'data'
PyTree = Any


def data_mesh() -> Mesh:
    """Return the mesh of all devices of all processes along the axis `AXIS`."""
    # make_mesh defaults to Explicit axes, which the gather of nn.Embed refuses.
    return jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(jax.sharding.AxisType.Auto,))


def describe(mesh: Mesh) -> str:
    """Return how many devices of which kind there are, as in '8 tpu devices'."""
    return f'{mesh.size} {jax.default_backend()} device{"s" if mesh.size > 1 else ""}'


def pmapped(step_fn: Callable, mesh: Mesh) -> Callable:
    """Map `step_fn(state, batch) -> (state, metrics)` over the devices; the state is donated.

    This is the call that `jax.pmap(step_fn, axis_name=AXIS, in_axes=(None, 0), out_axes=None)`
    stands for, on global arrays.
    """
    # check_vma=True would multiply psum-ed gradients by the number of devices.
    mapped = jax.shard_map(
        step_fn, mesh=mesh, in_specs=(P(), P(AXIS)), out_specs=P(), check_vma=False
    )
    return jax.jit(mapped, donate_argnums=0)


def mapped_over_clips(fn: Callable, mesh: Mesh) -> Callable:
    """Map `fn(params, batch)`, whose outputs have leading axis B, over the devices."""
    return jax.jit(
        jax.shard_map(fn, mesh=mesh, in_specs=(P(), P(AXIS)), out_specs=P(AXIS), check_vma=False)
    )


def summed_over_clips(fn: Callable, mesh: Mesh) -> Callable:
    """Map `fn(params, batch)`, whose outputs are already psum-ed, over the devices."""
    return jax.jit(
        jax.shard_map(fn, mesh=mesh, in_specs=(P(), P(AXIS)), out_specs=P(), check_vma=False)
    )


def replicate(tree: PyTree, mesh: Mesh) -> PyTree:
    """Put a copy of every array of `tree` on every device."""
    return jax.device_put(tree, NamedSharding(mesh, P()))


def shard_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Make global arrays, split by clips, of this host's rows; text stays behind."""
    sharding = NamedSharding(mesh, P(AXIS))
    return {
        key: jax.make_array_from_process_local_data(sharding, value)
        for key, value in batch.items()
        if value.dtype != object
    }


def host() -> int:
    """Return the index of this process."""
    return jax.process_index()


def num_hosts() -> int:
    """Return the number of processes."""
    return jax.process_count()


def round_up(num_clips: int, mesh: Mesh) -> int:
    """Return the smallest batch size from `num_clips` on that splits evenly over the devices."""
    return -(-num_clips // mesh.size) * mesh.size
