"""Transformer blocks, post-norm, over explicit key/value tensors (Vaswani et al., 2017).

The decoder reads K captions of one clip at once: its states are (B, K, L, D) while the clip's
memory stays (B, S, D), encoded once and never repeated. Packed, its states are (M, D): only the
attentions see the captions as rows.
"""

import functools
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct

from stg_jax.ops.dense import Dense, DenseGeneral
from stg_jax.ops.dropout import Dropout
from stg_jax.ops.einsum import einsum_float32
from stg_jax.ops.packed_attention import attend_packed
from stg_jax.ops.packing import WHOLE, Packing
from stg_jax.ops.platform import is_for_cpu

_UNROLL = 8  # positions in a step of a loop on a CPU
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
    num_filled: jax.Array | int

    def at(self, position: jax.Array) -> KeyValue:
        """Return those at one position (R, H, E), an int32 scalar."""
        ...

    def whole(self) -> KeyValue:
        """Return those at all positions (R, S, H, E)."""
        ...


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
        logit_HQS = einsum_float32('...QHE,...SHE->...HQS', self._scaled(query_QHE), memory.key)
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
            logit_RH = einsum_float32('RHE,RHE->RH', query_RHE, memory.at(s).key)
            return logit_SRH.at[s].set(logit_RH)

        def read(s, read_RHE):
            return read_RHE + weight_SRH[s, ..., None] * memory.at(s).value

        nothing_RHE = jnp.zeros(query_RHE.shape, jnp.float32)
        masked_SRH = jnp.full((memory.mask_RS.shape[1], *query_RHE.shape[:2]), MASKED, jnp.float32)
        # A clip's positions are many and of a known number: in steps of several, as each step of a
        # loop costs as much as the work for one position.
        unroll = _UNROLL if isinstance(memory.num_filled, int) else None
        logit_SRH = jax.lax.fori_loop(0, memory.num_filled, compare, masked_SRH, unroll=unroll)
        logit_SRH = jnp.where(memory.mask_RS.T[..., None], logit_SRH, MASKED)
        weight_SRH = jax.nn.softmax(logit_SRH, axis=0)
        read_RHE = jax.lax.fori_loop(0, memory.num_filled, read, nothing_RHE, unroll=unroll)
        return read_RHE.astype(self.dtype)

    def _scaled(self, query_QHE):
        return query_QHE * (self.width // self.heads) ** -0.5


def sinusoids(length: int, width: int) -> np.ndarray:
    """Return the sinusoidal positions (length, width) of Vaswani et al., sines first."""
    rate = np.exp(-np.log(1e4) * np.arange(0, width, 2) / width)
    angle = np.arange(length)[:, None] * rate
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=-1).astype(np.float32)


class FeedForward(nn.Module):
    """Two dense layers with a ReLU and dropout between them."""

    width: int
    hidden: int
    dropout: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_D: jax.Array, train: bool) -> jax.Array:
        """Map (..., D) to (..., D)."""
        x_F = nn.relu(Dense(self.hidden, dtype=self.dtype)(x_D))
        x_F = Dropout(self.dropout)(x_F, deterministic=not train)
        return Dense(self.width, dtype=self.dtype)(x_F)


class EncoderLayer(nn.Module):
    """Self-attention over a clip's sequence, then feed-forward; each added, then normalised."""

    width: int
    heads: int
    feedforward: int
    dropout: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BSD: jax.Array, mask_BS: jax.Array, train: bool) -> jax.Array:
        """Return (B, S, D) where positions attend to the real ones of mask (B, S)."""
        drop = functools.partial(Dropout(self.dropout), deterministic=not train)
        attention = Attention(self.width, self.heads, self.dtype)
        attended_BSD = attention(x_BSD, attention.project(x_BSD), mask_BS[:, None, :])
        x_BSD = nn.LayerNorm(dtype=self.dtype)(x_BSD + drop(attended_BSD))
        fed_BSD = FeedForward(self.width, self.feedforward, self.dropout, self.dtype)(x_BSD, train)
        return nn.LayerNorm(dtype=self.dtype)(x_BSD + drop(fed_BSD))


class DecoderLayer(nn.Module):
    """Causal self-attention, cross-attention to the clip, feed-forward, each post-norm."""

    width: int
    heads: int
    feedforward: int
    dropout: float
    dtype: jnp.dtype

    def setup(self):
        """Define the sub-layers, shared by teacher forcing and stepwise decoding."""
        self.self_attention = Attention(self.width, self.heads, self.dtype)
        self.cross_attention = Attention(self.width, self.heads, self.dtype)
        self.feed = FeedForward(self.width, self.feedforward, self.dropout, self.dtype)
        self.norms = [nn.LayerNorm(dtype=self.dtype) for _ in range(3)]
        self.drop = Dropout(self.dropout)

    def read_self(self, x_D: jax.Array) -> KeyValue:
        """Return the self-attention keys and values (..., H, E) of states (..., D)."""
        return self.self_attention.project(x_D)

    def read_memory(self, memory_BSD: jax.Array) -> KeyValue:
        """Return this layer's cross-attention keys and values (B, S, H, E)."""
        return self.cross_attention.project(memory_BSD)

    def __call__(
        self,
        x_BKLD: jax.Array,
        own: KeyValue,
        own_mask_LS: jax.Array,
        memory: KeyValue,
        memory_mask_BS: jax.Array,
        train: bool,
        packing: Packing = WHOLE,
    ) -> jax.Array:
        """Return (B, K, L, D): L positions of K captions against their own words and the clip.

        With a packing `x_BKLD`, `own` and the result are those of its M words.
        """

        def read_own(query_BKLHE):
            attend = self.self_attention.attend
            if packing.position_M is not None:
                return attend_packed(attend, query_BKLHE, own, packing)
            query_RLHE, own_RSHE = jax.tree.map(_flat_rows, (query_BKLHE, own))
            return attend(query_RLHE, own_RSHE, own_mask_LS).reshape(query_BKLHE.shape)

        def read_clip(query_MHE):
            # All words of all captions of a clip are queries against the one memory of that clip.
            query_BKLHE = packing.unpack(query_MHE)
            B, K, L, H, E = query_BKLHE.shape
            query_BQHE = query_BKLHE.reshape(B, K * L, H, E)
            read = self.cross_attention.attend(query_BQHE, memory, memory_mask_BS[:, None, :])
            return packing.pack(read.reshape(B, K, L, H, E))

        return self._read(x_BKLD, read_own, read_clip, train)

    def step(self, x_RD: jax.Array, own: Scattered, clip: Scattered) -> jax.Array:
        """Return (R, D): the last words of R captions against the words so far and the clip."""
        read_own = functools.partial(self.self_attention.attend_each, memory=own)
        read_clip = functools.partial(self.cross_attention.attend_each, memory=clip)
        return self._read(x_RD, read_own, read_clip, train=False)

    def _read(self, x_D, read_own, read_clip, train):
        """Apply all sub-layers to states (..., D), of which two read by queries (..., H, E)."""

        def attended(attention, read):
            return attention.out(read(attention.query(x_D)))

        def add(norm, x_D, update_D):
            return norm(x_D + self.drop(update_D, deterministic=not train))

        x_D = add(self.norms[0], x_D, attended(self.self_attention, read_own))
        x_D = add(self.norms[1], x_D, attended(self.cross_attention, read_clip))
        return add(self.norms[2], x_D, self.feed(x_D, train))


def _flat_rows(x_BKLHE):
    # An axis more, even of length one, and a CPU transposes keys and values.
    return x_BKLHE.reshape(-1, *x_BKLHE.shape[2:])
