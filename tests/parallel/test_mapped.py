"""What XLA is told for a GPU, whatever its version knows, and what a user is told of memory."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stg_jax.errors import UserError
from stg_jax.parallel import mapped


def mesh_of(platform):
    """Return what is read of a mesh."""
    return types.SimpleNamespace(devices=np.array([types.SimpleNamespace(platform=platform)]))


def test_only_gpus_have_options(monkeypatch):
    monkeypatch.setattr(mapped, '_GPU_OPTIONS', {'xla_gpu_enable_triton_gemm': False})
    assert mapped._compiler_options(mesh_of('gpu')) == {'xla_gpu_enable_triton_gemm': False}
    assert mapped._compiler_options(mesh_of('cpu')) is None
    assert mapped._compiler_options(mesh_of('tpu')) is None


def test_an_option_that_this_version_does_not_know_is_left_out(monkeypatch):
    options = mapped._GPU_OPTIONS | {'xla_gpu_of_another_version': True}
    monkeypatch.setattr(mapped, '_GPU_OPTIONS', options)
    known = mapped._compiler_options(mesh_of('gpu'))
    assert 'xla_gpu_of_another_version' not in known
    jax.jit(lambda x: x + 1, compiler_options=known)(1)  # refused by name if one were unknown


def test_too_little_memory_is_told_with_what_to_change():
    beyond_any_address = 2**50
    with (
        pytest.raises(UserError, match=r'memory \(RESOURCE_EXHAUSTED: .*train.accumulate'),
        mapped.naming_lack_of_memory(),
    ):
        jnp.zeros(beyond_any_address).block_until_ready()


def test_other_errors_of_a_device_keep_their_traceback():
    with (
        pytest.raises(jax.errors.JaxRuntimeError, match='INTERNAL'),
        mapped.naming_lack_of_memory(),
    ):
        raise jax.errors.JaxRuntimeError('INTERNAL: a fault')
