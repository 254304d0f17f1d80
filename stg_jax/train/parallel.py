"""The only room that knows of devices and processes.

Everything runs data parallel over one mesh axis: parameters are replicated, batches are split by
clips, and the per-device functions of `step.py` speak to each other through `over_devices` alone.
"""

import collections
import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from stg_jax.errors import UserError
from stg_jax.model.target import is_for_cpu, traced_for

# By a kernel of its own on NVIDIA GPUs: as plain arithmetic, which XLA copies into whatever reads
# its numbers, keys of dropout were a third of what there is to compile.
jax.config.update('jax_threefry_gpu_kernel_lowering', True)

AXIS = 'data'
# Off, because trying out kernels for every product and loop of a step took minutes.
_GPU_OPTIONS = {
    'xla_gpu_enable_triton_gemm': False,
    'xla_gpu_experimental_enable_fusion_autotuner': False,
}
LOST_AFTER = 30  # seconds without a sign of life, after which a process counts as lost
PyTree = Any


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
            f'--multihost: the processes did not find each other ({_first_line(error)}); outside '
            'of TPU pods, Slurm, MPI and Kubernetes, start every one with --coordinator=HOST:PORT '
            '--num_processes=N --process_id=I'
        ) from None
    counts = collections.Counter(device.process_index for device in jax.devices())
    if len(set(counts.values())) > 1:
        raise UserError(f'the processes have unequal numbers of devices: {dict(counts)}')
    # Gloo gives processes half a minute to connect: now, not after one has compiled for longer.
    of_all_hosts(np.zeros(1))
    jax.block_until_ready(ballot(data_mesh())(False))


def data_mesh() -> Mesh:
    """Return the mesh of all devices of all processes along the axis `AXIS`."""
    # make_mesh defaults to Explicit axes, which the gather of nn.Embed refuses.
    return jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(jax.sharding.AxisType.Auto,))


def on_cpu() -> contextlib.AbstractContextManager:
    """Return a context in which what is lowered is for a CPU, whatever else there is."""
    return jax.default_device(jax.local_devices(backend='cpu')[0])


def describe(mesh: Mesh) -> str:
    """Return how many devices of which kind there are, as in '8 tpu devices of 2 hosts'."""
    devices = f'{mesh.size} {jax.default_backend()} device{"s" if mesh.size > 1 else ""}'
    return devices if num_hosts() == 1 else f'{devices} of {num_hosts()} hosts'


def pmapped(step_fn: Callable, mesh: Mesh, clip_axis: int = 0) -> Callable:
    """Map `step_fn(state, batch) -> (state, metrics)` over the devices; the state is donated.

    This is the call that `jax.pmap(step_fn, axis_name=AXIS, in_axes=(None, clip_axis),
    out_axes=None)` stands for, on global arrays.
    """
    return _mapped(step_fn, mesh, P(), clip_axis, donate_argnums=0)


def over_devices(tree: PyTree) -> PyTree:
    """Return the sum of a tree over the axis `AXIS`, inside a mapped function."""
    if jax.lax.axis_size(AXIS) == 1:
        return tree  # XLA would copy its arrays
    if not is_for_cpu():
        return jax.lax.psum(tree, AXIS)
    # As one array: XLA for CPUs joins no sums, and each would wait for the network by itself.
    flat, restored = ravel_pytree(tree)
    return restored(jax.lax.psum(flat, AXIS))


def _mapped(fn: Callable, mesh: Mesh, out_specs: P, clip_axis: int = 0, **options: Any) -> Callable:
    """Map a function of something that all devices have and something that is split by clips."""
    mapped = jax.shard_map(
        _traced_for(mesh, fn),
        mesh=mesh,
        in_specs=(P(), _by_clips(clip_axis)),
        out_specs=out_specs,
        check_vma=False,  # True would multiply psum-ed gradients by the number of devices.
    )
    return jax.jit(mapped, compiler_options=_compiler_options(mesh), **options)


def _by_clips(clip_axis: int) -> P:
    return P(*[None] * clip_axis, AXIS)


def _compiler_options(mesh: Mesh) -> dict[str, bool] | None:
    if mesh.devices.flat[0].platform != 'gpu':
        return None
    return {name: value for name, value in _GPU_OPTIONS.items() if _is_known(name, value)}


@functools.cache
def _is_known(name: str, value: bool) -> bool:
    """Return whether this version of XLA has an option; it refuses to compile with unknown ones."""
    try:
        jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


def _traced_for(mesh: Mesh, fn: Callable) -> Callable:
    """Let `fn` be traced for the devices of a mesh, which need not be of this machine.

    A TPU has a generator of random bits of its own ('rbg'); the arithmetic of Threefry, JAX's
    default, would be most of a step's dropout there, while a CPU is faster with it.
    """
    platform = mesh.devices.flat[0].platform
    bits = 'rbg' if platform == 'tpu' else 'threefry2x32'

    @functools.wraps(fn)
    def traced(*args: PyTree) -> PyTree:
        with traced_for(platform), jax.default_prng_impl(bits):
            return fn(*args)

    return traced


def mapped_over_clips(fn: Callable, mesh: Mesh, clip_axis: int = 0) -> Callable:
    """Map `fn(params, batch)`, whose outputs are split by clips as the batch is, over devices."""
    return _mapped(fn, mesh, _by_clips(clip_axis), clip_axis)


def summed_over_clips(fn: Callable, mesh: Mesh) -> Callable:
    """Map `fn(params, batch)`, whose outputs are already psum-ed, over the devices."""
    return _mapped(fn, mesh, out_specs=P())


def replicate(tree: PyTree, mesh: Mesh) -> PyTree:
    """Put a copy of every array of `tree`, which all hosts have, on every device."""
    everywhere = NamedSharding(mesh, P())
    if num_hosts() == 1:
        return jax.device_put(tree, everywhere)
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(everywhere, np.asarray(x)), tree
    )


def shard_batch(
    batch: Mapping[str, np.ndarray], mesh: Mesh, clip_axis: int = 0
) -> dict[str, jax.Array]:
    """Make global arrays, split by clips, of this host's rows; text stays behind."""
    sharding = NamedSharding(mesh, _by_clips(clip_axis))
    return {
        key: jax.make_array_from_process_local_data(sharding, value)
        for key, value in batch.items()
        if value.dtype != object
    }


class Features:
    """The features of a split on every device, of which batches name rows.

    Args:
      table: arrays of one row a clip; nothing where batches bring their features with them.
      mesh: of the devices.
      clip_axis: of the batches.

    Raises:
      UserError: the devices have too little memory.
    """

    def __init__(self, table: Mapping[str, np.ndarray], mesh: Mesh, clip_axis: int = 0):
        _check_memory(table)
        self._table = replicate(table, mesh)
        self._rows = mapped_over_clips(
            lambda table, batch: {name: x[batch['row']] for name, x in table.items()},
            mesh,
            clip_axis,
        )

    def of(self, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """Return a batch from `shard_batch` with its features instead of 'row'."""
        if not self._table:
            return batch
        given = {name: value for name, value in batch.items() if name != 'row'}
        return given | self._rows(self._table, {'row': batch['row']})


def _check_memory(table: Mapping[str, np.ndarray]) -> None:
    stats = jax.local_devices()[0].memory_stats() or {}  # a CPU says nothing
    needed = sum(array.nbytes for array in table.values())
    free = stats.get('bytes_limit', math.inf) - stats.get('bytes_in_use', 0)
    if needed > free:
        raise UserError(
            f'the features take {needed / 1e9:.1f} GB, but {free / 1e9:.1f} GB of an accelerator '
            'are free: use --config.data.cache=host'
        )


@contextlib.contextmanager
def naming_lack_of_memory() -> Iterator[None]:
    """Say what to do when training needs more memory than a device has.

    Raises:
      UserError: it did.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if 'RESOURCE_EXHAUSTED' not in str(error):
            raise
        raise UserError(
            f'a device has too little memory ({_first_line(error)}): lower '
            'config.decode.batch_size where validation needs it, or '
            'config.train.steps_per_execution; else begin another --workdir with '
            'a higher config.train.accumulate, a lower config.train.batch_size or model.dtype '
            'bfloat16'
        ) from None


def replicated_shapes(tree: PyTree, mesh: Mesh) -> PyTree:
    """Return what `replicate` would give of arrays or shapes, as shapes."""
    return _shapes(tree, NamedSharding(mesh, P()))


def sharded_shapes(batch: Mapping[str, Any], mesh: Mesh) -> PyTree:
    """Return what `shard_batch` would give of all hosts' rows, as shapes."""
    return _shapes(dict(batch), NamedSharding(mesh, P(AXIS)))


def reshaped(array: jax.Array, *shape: int) -> jax.ShapeDtypeStruct:
    """Return what stands for an array of another shape that is on the same devices."""
    return jax.ShapeDtypeStruct(shape, array.dtype, sharding=array.sharding)


def _shapes(tree, sharding):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def own_rows(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return this host's rows of a global batch that all hosts have."""
    return {key: np.split(value, num_hosts())[host()] for key, value in batch.items()}


def local_rows(array_B: jax.Array) -> np.ndarray:
    """Return this host's rows of an array that is split by clips."""
    if array_B.is_fully_addressable:
        return np.asarray(array_B)
    shards = {shard.index[0].start: shard.data for shard in array_B.addressable_shards}
    return np.concatenate([np.asarray(shards[start]) for start in sorted(shards)])


def host() -> int:
    """Return the index of this process."""
    return jax.process_index()


def num_hosts() -> int:
    """Return the number of processes."""
    return jax.process_count()


def of_all_hosts(array: np.ndarray) -> np.ndarray:
    """Return the arrays of all hosts, which are of one shape, stacked in their order."""
    return multihost_utils.process_allgather(array)


def of_first_host(tree: PyTree) -> PyTree:
    """Return host 0's arrays on every host, whose own say what to expect."""
    if num_hosts() == 1:
        return tree

    def received(x: np.ndarray) -> np.ndarray:
        # As bytes: the sum that carries them would turn -0.0 into 0.0.
        x = np.asarray(x)
        sent = multihost_utils.broadcast_one_to_all(np.frombuffer(x.tobytes(), np.uint8))
        return np.frombuffer(sent.tobytes(), x.dtype).reshape(x.shape)

    return jax.tree.map(received, tree)


def ballot(mesh: Mesh) -> Callable[[bool], jax.Array]:
    """Return `vote(wish)`: whether any host has the wish, known once the devices get to it."""
    split, everywhere = NamedSharding(mesh, P(AXIS)), NamedSharding(mesh, P())
    count = jax.jit(jnp.any, out_shardings=everywhere)
    num_votes = mesh.size // num_hosts()
    return lambda wish: count(
        jax.make_array_from_process_local_data(split, np.full(num_votes, wish))
    )


def is_lost_connection(error: BaseException) -> bool:
    """Return whether an error says that another process does not answer any more."""
    return isinstance(error, jax.errors.JaxRuntimeError) or 'Gloo' in str(error)


def round_up(num_clips: int, mesh: Mesh) -> int:
    """Return the smallest batch size from `num_clips` on that splits evenly over the devices."""
    return -(-num_clips // mesh.size) * mesh.size


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
