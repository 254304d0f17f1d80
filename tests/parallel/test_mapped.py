"""Compiler options of any version of XLA, and the error of a device without memory left."""

import jax
import jax.numpy as jnp
import pytest

from stg_jax.errors import UserError
from stg_jax.parallel import mapped


def test_compiler_options_of_another_version_are_left_out():
    known = {'xla_embed_ir_in_executable': True}
    options = mapped.known_options(known | {'xla_of_another_version': True})
    assert options == known
    assert jax.jit(lambda x: x + 1, compiler_options=options)(1) == 2


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
