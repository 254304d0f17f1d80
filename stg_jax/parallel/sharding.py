"""The mesh of all devices, and arrays that are replicated over it or split by clips."""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from stg_jax.parallel.processes import host, num_hosts

PyTree = Any


AXIS = 'data'


def data_mesh() -> Mesh:
    """Make the mesh of all devices of all processes, along the one axis `AXIS`."""
    # make_mesh defaults to Explicit axes, but the gather of nn.Embed only works with Auto axes.
    return jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(jax.sharding.AxisType.Auto,))


def on_cpu() -> contextlib.AbstractContextManager:
    """Lower programs for the CPU inside the context, even where there are accelerators."""
    return jax.default_device(jax.local_devices(backend='cpu')[0])


def describe(mesh: Mesh) -> str:
    """Describe the devices, as in '8 tpu devices of 2 hosts'."""
    devices = f'{mesh.size} {jax.default_backend()} device{"s" if mesh.size > 1 else ""}'
    return devices if num_hosts() == 1 else f'{devices} of {num_hosts()} hosts'


def replicate(tree: PyTree, mesh: Mesh) -> PyTree:
    """Put a copy of every array of `tree`, which all hosts have, on every device."""
    everywhere = NamedSharding(mesh, P())
    if num_hosts() == 1:
        return jax.device_put(tree, everywhere)
    # device_put to devices of other hosts would compare the values over the network first.
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(everywhere, np.asarray(x)), tree
    )


def shard_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Make global arrays, split by clips, of the rows of all hosts; arrays of text are left out."""
    sharding = NamedSharding(mesh, P(AXIS))
    return {
        key: jax.make_array_from_process_local_data(sharding, value)
        for key, value in batch.items()
        if value.dtype != object
    }


def replicated_shapes(tree: PyTree, mesh: Mesh) -> PyTree:
    """Give the shapes and shardings of `replicate(tree, mesh)`; `tree` may hold shapes itself."""
    return _shapes(tree, NamedSharding(mesh, P()))


def sharded_shapes(batch: Mapping[str, Any], mesh: Mesh) -> PyTree:
    """Give the shapes and shardings of a global batch from `shard_batch`."""
    return _shapes(dict(batch), NamedSharding(mesh, P(AXIS)))


def reshaped(array: jax.Array, *shape: int) -> jax.ShapeDtypeStruct:
    """Make a ShapeDtypeStruct with a new shape and the array's sharding."""
    return jax.ShapeDtypeStruct(shape, array.dtype, sharding=array.sharding)


def _shapes(tree, sharding):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def own_rows(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Select this host's rows of a global batch that all hosts hold."""
    return {key: np.split(value, num_hosts())[host()] for key, value in batch.items()}


def local_rows(array_B: jax.Array) -> np.ndarray:
    """Copy this host's rows of an array that is split by clips to NumPy."""
    if array_B.is_fully_addressable:
        return np.asarray(array_B)
    shards = {shard.index[0].start: shard.data for shard in array_B.addressable_shards}
    return np.concatenate([np.asarray(shards[start]) for start in sorted(shards)])


def ballot(mesh: Mesh) -> Callable[[bool], jax.Array]:
    """Make `vote(wish)`, which computes on the devices whether any host passed True.

    The host does not wait for the result: it is ready once the devices have done the work queued
    before it.
    """
    split, everywhere = NamedSharding(mesh, P(AXIS)), NamedSharding(mesh, P())
    count = jax.jit(jnp.any, out_shardings=everywhere)
    num_votes = mesh.size // num_hosts()
    return lambda wish: count(
        jax.make_array_from_process_local_data(split, np.full(num_votes, wish))
    )
