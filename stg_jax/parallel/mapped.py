"""Per-device functions mapped over the mesh: jit of shard_map, which is what jax.pmap runs.

Everything runs data parallel over one mesh axis: parameters are replicated, batches are split by
clips, and per-device functions communicate through `over_devices` only.
"""

import contextlib
import functools
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from stg_jax.errors import UserError, first_line
from stg_jax.ops.platform import is_for_cpu, traced_for
from stg_jax.parallel.processes import num_hosts
from stg_jax.parallel.sharding import AXIS, local_rows, replicate, shard_batch

try:
    import resource
except ImportError:  # Windows
    resource = None

# Threefry as one kernel on NVIDIA GPUs. As plain arithmetic, XLA would inline it into every fusion
# that reads random numbers: a third of the code that is compiled for a step with dropout.
jax.config.update('jax_threefry_gpu_kernel_lowering', True)

PyTree = Any


# Off, because both try out kernels for every matmul and fusion of a step, which took minutes.
_GPU_OPTIONS = {
    'xla_gpu_enable_triton_gemm': False,
    'xla_gpu_experimental_enable_fusion_autotuner': False,
}


def pmapped(step_fn: Callable, mesh: Mesh, num_replicated: int = 1) -> Callable:
    """Map `step_fn(state, batch) -> (state, metrics)` over the devices; the state is donated.

    Equivalent to `jax.pmap(step_fn, axis_name=AXIS, in_axes=(None, 0), out_axes=None)`, on global
    arrays. With a larger `num_replicated`, other arguments that all devices have follow the state.
    """
    return _mapped(step_fn, mesh, P(), num_replicated, donate_argnums=0)


def over_devices(tree: PyTree) -> PyTree:
    """Sum a tree over all devices, inside a mapped function."""
    if jax.lax.axis_size(AXIS) == 1:
        return tree  # a psum over one device would still copy every array
    if not is_for_cpu():
        return jax.lax.psum(tree, AXIS)
    # As one array: XLA:CPU does not combine all-reduces, and each one would pay the latency of
    # the network.
    # Two processes on two cores trained 144 captions/s with 177 separate sums, 725 to 761 with one.
    flat, restored = ravel_pytree(tree)
    return restored(jax.lax.psum(flat, AXIS))


def _mapped(
    fn: Callable, mesh: Mesh, out_specs: P, num_replicated: int = 1, **options: Any
) -> Callable:
    """Map `fn(replicated, batch)` over the devices; the batch is split by clips."""
    mapped = jax.shard_map(
        _traced_for(mesh, fn),
        mesh=mesh,
        in_specs=(*[P()] * num_replicated, P(AXIS)),
        out_specs=out_specs,
        check_vma=False,  # True would multiply psum-ed gradients by the number of devices.
    )
    return jax.jit(mapped, compiler_options=_compiler_options(mesh), **options)


def _compiler_options(mesh: Mesh) -> dict[str, bool] | None:
    return known_options(_GPU_OPTIONS) if mesh.devices.flat[0].platform == 'gpu' else None


def known_options(options: Mapping[str, bool]) -> dict[str, bool]:
    """Keep those compiler options that this version of XLA has; it refuses all others."""
    return {name: value for name, value in options.items() if _is_known(name, value)}


@functools.cache
def _is_known(name: str, value: bool) -> bool:
    try:
        jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


def _traced_for(mesh: Mesh, fn: Callable) -> Callable:
    """Trace `fn` for the platform of a mesh, whose devices need not belong to this machine."""
    platform = mesh.devices.flat[0].platform
    # TPUs have a hardware generator of random bits ('rbg'). JAX's default, Threefry, would take
    # most of the time of dropout there; on a CPU it is the faster of the two.
    bits = 'rbg' if platform == 'tpu' else 'threefry2x32'

    @functools.wraps(fn)
    def traced(*args: PyTree) -> PyTree:
        with traced_for(platform), jax.default_prng_impl(bits):
            return fn(*args)

    return traced


def mapped_over_clips(fn: Callable, mesh: Mesh) -> Callable:
    """Map `fn(params, batch)` over the devices; outputs are split by clips, as the batch is."""
    return _mapped(fn, mesh, P(AXIS))


def on_all_devices(
    fn: Callable, params: PyTree, batch: Mapping[str, np.ndarray], mesh: Mesh
) -> PyTree:
    """Call a function from `mapped_over_clips` on this host's clips.

    Any number of clips will do: the last one is repeated until they split evenly over the devices
    of this host. Every host of a pod must call with the same number.

    Returns:
      The outputs of this host's clips, as NumPy arrays.
    """
    num_clips = len(next(iter(batch.values())))
    num_devices = mesh.size // num_hosts()
    num_added = -num_clips % num_devices

    def padded(value: np.ndarray) -> np.ndarray:
        # A real clip and not zeros: padding must not take longer to decode than any clip.
        return np.pad(value, [(0, num_added)] + [(0, 0)] * (value.ndim - 1), mode='edge')

    rows = {key: padded(value) if num_added else value for key, value in batch.items()}
    outputs = fn(params, shard_batch(rows, mesh))
    return jax.tree.map(lambda x: local_rows(x)[:num_clips], outputs)


def summed_over_clips(fn: Callable, mesh: Mesh) -> Callable:
    """Map `fn(params, batch)` over the devices; `fn` sums its outputs with `over_devices`."""
    return _mapped(fn, mesh, out_specs=P())


class Features:
    """A feature table on every device, which the 'row' of a batch indexes (cache='device').

    Args:
      table: arrays with one row for each clip; empty where batches bring their own features.
      mesh: the devices.

    Raises:
      UserError: the devices have too little memory.
    """

    def __init__(self, table: Mapping[str, np.ndarray], mesh: Mesh):
        _check_memory(table)
        # The whole table on every device: a batch then costs a gather on the device, and only some
        # row numbers are sent from the host.
        self._table = replicate(table, mesh)
        self._rows = mapped_over_clips(
            lambda table, batch: {name: x[batch['row']] for name, x in table.items()},
            mesh,
        )

    def of(self, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """Replace 'row' by the features in a batch from `shard_batch`."""
        if not self._table:
            return batch
        given = {name: value for name, value in batch.items() if name != 'row'}
        return given | self._rows(self._table, {'row': batch['row']})


def peak_memory() -> dict[str, float]:
    """Measure peak memory in GB: 'host_memory_gb' of this process, 'device_memory_gb' of a device.

    A value that the platform does not offer is left out; a CPU is no device.
    """
    found = {}
    if resource is not None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        # Linux counts in kilobytes, macOS in bytes.
        found['host_memory_gb'] = peak * (1 if sys.platform == 'darwin' else 1024) / 1e9
    stats = jax.local_devices()[0].memory_stats() or {}  # None on a CPU
    if 'peak_bytes_in_use' in stats:
        found['device_memory_gb'] = stats['peak_bytes_in_use'] / 1e9
    return found


def _check_memory(table: Mapping[str, np.ndarray]) -> None:
    stats = jax.local_devices()[0].memory_stats() or {}  # None on a CPU
    needed = sum(array.nbytes for array in table.values())
    free = stats.get('bytes_limit', math.inf) - stats.get('bytes_in_use', 0)
    # Before the transfer, which would fail after minutes and without naming the remedy.
    if needed > free:
        raise UserError(
            f'the features take {needed / 1e9:.1f} GB, but {free / 1e9:.1f} GB of an accelerator '
            'are free: use --config.data.cache=host'
        )


@contextlib.contextmanager
def naming_lack_of_memory() -> Iterator[None]:
    """Turn a lack of device memory into a sentence that says what to change.

    Raises:
      UserError: it did.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if 'RESOURCE_EXHAUSTED' not in str(error):
            raise
        raise UserError(
            f'a device has too little memory ({first_line(error)}): lower '
            'config.decode.batch_size where validation needs it, or '
            'config.train.steps_per_execution; else begin another --workdir with '
            'a higher config.train.accumulate, a lower config.train.batch_size or model.dtype '
            'bfloat16'
        ) from None
