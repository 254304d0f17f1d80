"""The layers of the language decoder: post-norm Transformer encoder and decoder layers.

Source: Vaswani et al., "Attention Is All You Need", 2017. Dropout acts on feed-forward activations
and on the output of every sub-layer, and a dropout of its own on attention weights.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from stg_jax.ops.cached_attention import MASKED, KeyValue, KeyValueView, attend_each
from stg_jax.ops.dense import Dense, DenseGeneral, einsum_float32
from stg_jax.ops.dropout import Dropout
from stg_jax.ops.packing import Packing, attend_packed


class Attention(nn.Module):
    """Multi-head scaled dot-product attention; the softmax runs in float32."""

    width: int
    heads: int
    dtype: jnp.dtype
    dropout: float = 0.0  # of the weights

    def setup(self):
        """Define the four projections and the dropout."""
        split = (self.heads, self.width // self.heads)
        self.query = DenseGeneral(split, dtype=self.dtype)
        self.key = DenseGeneral(split, dtype=self.dtype)
        self.value = DenseGeneral(split, dtype=self.dtype)
        self.out = DenseGeneral(self.width, axis=(-2, -1), dtype=self.dtype)
        self.drop = Dropout(self.dropout)

    def project(self, x_SD: jax.Array) -> KeyValue:
        """Project x (..., S, D) to keys and values (..., S, H, E)."""
        return KeyValue(self.key(x_SD), self.value(x_SD))

    def __call__(
        self, x_QD: jax.Array, memory: KeyValue, mask_QS: jax.Array, train: bool
    ) -> jax.Array:
        """Attend from x (..., Q, D) to memory where mask (..., Q or 1, S) is True."""
        return self.out(self.attend(self.query(x_QD), memory, mask_QS, train))

    def attend(
        self, query_QHE: jax.Array, memory: KeyValue, mask_QS: jax.Array, train: bool = False
    ) -> jax.Array:
        """Average the values per head (..., Q, H, E), before the output projection."""
        query_QHE = query_QHE * (self.width // self.heads) ** -0.5
        logit_HQS = einsum_float32('...QHE,...SHE->...HQS', query_QHE, memory.key)
        logit_HQS = jnp.where(mask_QS[..., None, :, :], logit_HQS, MASKED)
        # In float32: bfloat16 has three digits, too few for the sum of a softmax over many
        # positions.
        weight_HQS = jax.nn.softmax(logit_HQS).astype(self.dtype)
        weight_HQS = self.drop(weight_HQS, deterministic=not train)
        return jnp.einsum('...HQS,...SHE->...QHE', weight_HQS, memory.value)

    def attend_each(self, query_RHE: jax.Array, memory: KeyValueView) -> jax.Array:
        """Attend with one query per row; each row's keys and values are found in `memory`."""
        return attend_each(self.attend, query_RHE, memory)


def sinusoids(length: int, width: int) -> np.ndarray:
    """Compute the sinusoidal positions (length, width) of Vaswani et al., sines first."""
    # In NumPy: positions are constants of the program, computed once while it is traced.
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
    """Self-attention over a clip's sequence, then feed-forward; each added, then normalized."""

    width: int
    heads: int
    feedforward: int
    dropout: float
    attention_dropout: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BSD: jax.Array, mask_BS: jax.Array, train: bool) -> jax.Array:
        """Map (B, S, D) to (B, S, D); only positions where the mask is True are attended to."""
        drop = functools.partial(Dropout(self.dropout), deterministic=not train)
        attention = Attention(self.width, self.heads, self.dtype, self.attention_dropout)
        # Masked positions are computed too, but no position attends to them.
        attended_BSD = attention(x_BSD, attention.project(x_BSD), mask_BS[:, None, :], train)
        x_BSD = nn.LayerNorm(dtype=self.dtype)(x_BSD + drop(attended_BSD))
        fed_BSD = FeedForward(self.width, self.feedforward, self.dropout, self.dtype)(x_BSD, train)
        return nn.LayerNorm(dtype=self.dtype)(x_BSD + drop(fed_BSD))


class DecoderLayer(nn.Module):
    """Causal self-attention, cross-attention to the clip, feed-forward, each post-norm.

    Teacher forcing (`__call__`) and stepwise decoding (`step`) share the sub-layers and differ only
    in where keys and values are found.
    """

    width: int
    heads: int
    feedforward: int
    dropout: float
    attention_dropout: float
    dtype: jnp.dtype

    def setup(self):
        """Define the sub-layers."""
        sizes = (self.width, self.heads, self.dtype, self.attention_dropout)
        self.self_attention, self.cross_attention = Attention(*sizes), Attention(*sizes)
        self.feed = FeedForward(self.width, self.feedforward, self.dropout, self.dtype)
        self.norms = [nn.LayerNorm(dtype=self.dtype) for _ in range(3)]
        self.drop = Dropout(self.dropout)

    def read_self(self, x_D: jax.Array) -> KeyValue:
        """Project states (..., D) to self-attention keys and values (..., H, E)."""
        return self.self_attention.project(x_D)

    def read_memory(self, memory_BSD: jax.Array) -> KeyValue:
        """Project the memory of clips to this layer's cross-attention keys and values."""
        return self.cross_attention.project(memory_BSD)

    def __call__(
        self,
        x_MD: jax.Array,
        memory: KeyValue,
        memory_mask_BS: jax.Array,
        train: bool,
        packing: Packing,
    ) -> jax.Array:
        """Map the states of M packed tokens (M, D) to (M, D).

        Args:
          x_MD: states of the tokens.
          memory: cross-attention keys and values (B, S, H, E) of the clips.
          memory_mask_BS: True at real positions of the memory.
          train: whether dropout acts.
          packing: which token belongs to which caption and clip.
        """
        own = self.read_self(x_MD)
        attend_own = functools.partial(self.self_attention.attend, train=train)

        def read_own(query_MHE):
            return attend_packed(attend_own, query_MHE, own, packing)

        def read_clip(query_MHE):
            # All tokens of all captions of a clip are queries against the one memory of that clip.
            query_BKLHE = packing.unpack(query_MHE)
            B, K, L, H, E = query_BKLHE.shape
            query_BQHE = query_BKLHE.reshape(B, K * L, H, E)
            mask_B1S = memory_mask_BS[:, None, :]
            read = self.cross_attention.attend(query_BQHE, memory, mask_B1S, train)
            return packing.pack(read.reshape(B, K, L, H, E))

        return self._apply(x_MD, read_own, read_clip, train)

    def step(self, x_RD: jax.Array, own: KeyValueView, clip: KeyValueView) -> jax.Array:
        """Map the states of the last words of R captions (R, D) to (R, D).

        Args:
          x_RD: states of the words.
          own: keys and values of each caption's words so far, the last one included.
          clip: keys and values of each caption's clip.
        """
        # The same sub-layers as in teacher forcing, so that a caption gets the same score both
        # ways.
        read_own = functools.partial(self.self_attention.attend_each, memory=own)
        read_clip = functools.partial(self.cross_attention.attend_each, memory=clip)
        return self._apply(x_RD, read_own, read_clip, train=False)

    def _apply(self, x_D, read_own, read_clip, train):
        """Apply the three sub-layers; `read_*` turn queries (..., H, E) into what heads read."""

        def attended(attention, read):
            return attention.out(read(attention.query(x_D)))

        def add(norm, x_D, update_D):
            return norm(x_D + self.drop(update_D, deterministic=not train))

        x_D = add(self.norms[0], x_D, attended(self.self_attention, read_own))
        x_D = add(self.norms[1], x_D, attended(self.cross_attention, read_clip))
        return add(self.norms[2], x_D, self.feed(x_D, train))
