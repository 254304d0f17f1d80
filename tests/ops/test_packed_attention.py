"""Attention in blocks of the flat token array against attention caption by caption."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stg_jax.ops.packing import Packing, attend_packed, attend_rows

H, E = 2, 3


def attend(query_GQHE, own, mask_GQS):
    logit = jnp.einsum('...QHE,...SHE->...HQS', query_GQHE, own['key'])
    weight = jax.nn.softmax(jnp.where(mask_GQS[..., None, :, :], logit, -1e9))
    return jnp.einsum('...HQS,...SHE->...QHE', weight, own['value'])


def packed_captions(num_captions, L, seed=0):
    """Build a packing of captions of random length, with some empty slots at its end."""
    length_R = np.random.default_rng(seed).integers(0, L + 1, num_captions)
    real_P = (np.arange(L) < length_R[:, None]).reshape(-1)
    P = num_captions * L
    position_M = np.concatenate([np.flatnonzero(real_P), np.full(5, P)]).astype(np.int32)
    return Packing.of(jnp.asarray(position_M), (1, num_captions, L)), int(real_P.sum())


@pytest.mark.parametrize(('num_captions', 'L'), [(1, 1), (3, 5), (40, 21), (9, 70)])
def test_blocks_read_and_return_gradients_like_rows(num_captions, L):
    packing, num_real = packed_captions(num_captions, L)
    M = len(packing.position_M)
    query, key, value, cotangent = np.random.default_rng(1).normal(size=(4, M, H, E))

    def loss(attend_fn, query, own):
        return jnp.sum((attend_fn(attend, query, own, packing) * cotangent)[:num_real])

    own = {'key': key, 'value': value}
    found = jax.value_and_grad(loss, argnums=(1, 2))(attend_packed, query, own)
    expected = jax.value_and_grad(loss, argnums=(1, 2))(attend_rows, query, own)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, expected)
