"""Multi-head scaled dot-product attention over explicit keys and values."""

from typing import Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from stg_jax.model.dense import DenseGeneral
from stg_jax.model.products import float32_product
from stg_jax.model.target import is_for_cpu

MASKED = -1e9  # a finite logit, so that a row without any real key stays free of NaN


@struct.dataclass
class KeyValue:
    """Keys and values of an attention, split into heads: (..., S, H, E) each."""

    key: jax.Array
    value: jax.Array


class Scattered(Protocol):
    """Keys and values at S positions that R queries, one a row, find in various places.

    Attributes:
      mask_RS: (R or 1, S), True at the positions that count.
      num_filled: int32 scalar; nothing is to be found from this position on, where the mask is
        False.
    """

    mask_RS: jax.Array
    num_filled: jax.Array

    def at(self, position: jax.Array) -> KeyValue:
        """Return those at one position (R, H, E), an int32 scalar."""

    def whole(self) -> KeyValue:
        """Return those at all positions (R, S, H, E)."""


class Attention(nn.Module):
    """Multi-head scaled dot-product attention; the softmax runs in float32."""

    width: int
    heads: int
    dtype: jnp.dtype

    def setup(self):
        """Define the four projections."""
        split = (self.heads, self.width // self.heads)
        self.query = DenseGeneral(split, dtype=self.dtype)
        self.key = DenseGeneral(split, dtype=self.dtype)
        self.value = DenseGeneral(split, dtype=self.dtype)
        self.out = DenseGeneral(self.width, axis=(-2, -1), dtype=self.dtype)

    def project(self, x_SD: jax.Array) -> KeyValue:
        """Return the keys and values (..., S, H, E) of x (..., S, D)."""
        return KeyValue(self.key(x_SD), self.value(x_SD))

    def __call__(self, x_QD: jax.Array, memory: KeyValue, mask_QS: jax.Array) -> jax.Array:
        """Attend from x (..., Q, D) to memory where mask (..., Q or 1, S) is True."""
        return self.out(self.attend(self.query(x_QD), memory, mask_QS))

    def attend(self, query_QHE: jax.Array, memory: KeyValue, mask_QS: jax.Array) -> jax.Array:
        """Return what each head reads (..., Q, H, E), before the output projection."""
        logit_HQS = float32_product('...QHE,...SHE->...HQS', self._scaled(query_QHE), memory.key)
        logit_HQS = jnp.where(mask_QS[..., None, :, :], logit_HQS, MASKED)
        weight_HQS = jax.nn.softmax(logit_HQS).astype(self.dtype)
        return jnp.einsum('...HQS,...SHE->...QHE', weight_HQS, memory.value)

    def attend_each(self, query_RHE: jax.Array, memory: Scattered) -> jax.Array:
        """Return what one query a row reads (R, H, E) of keys and values that lie scattered."""
        if is_for_cpu():
            return self._attend_in_turn(query_RHE, memory)
        mask_R1S = memory.mask_RS[:, None]
        return self.attend(query_RHE[:, None], memory.whole(), mask_R1S)[:, 0]

    def _attend_in_turn(self, query_RHE, memory):
        """Read position by position: a copy of all of them would not fit into a core's cache."""
        query_RHE = self._scaled(query_RHE)

        def compare(s, logit_SRH):
            logit_RH = float32_product('RHE,RHE->RH', query_RHE, memory.at(s).key)
            return logit_SRH.at[s].set(logit_RH)

        def read(s, read_RHE):
            return read_RHE + weight_SRH[s, ..., None] * memory.at(s).value

        nothing_RHE = jnp.zeros(query_RHE.shape, jnp.float32)
        masked_SRH = jnp.full((memory.mask_RS.shape[1], *query_RHE.shape[:2]), MASKED, jnp.float32)
        logit_SRH = jax.lax.fori_loop(0, memory.num_filled, compare, masked_SRH)
        logit_SRH = jnp.where(memory.mask_RS.T[..., None], logit_SRH, MASKED)
        weight_SRH = jax.nn.softmax(logit_SRH, axis=0)
        return jax.lax.fori_loop(0, memory.num_filled, read, nothing_RHE).astype(self.dtype)

    def _scaled(self, query_QHE):
        return query_QHE * (self.width // self.heads) ** -0.5
