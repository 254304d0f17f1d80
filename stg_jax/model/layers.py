"""Transformer blocks, post-norm, over explicit key/value tensors (Vaswani et al., 2017).

The decoder reads K captions of one clip at once: its states are (B, K, L, D) while the clip's
memory stays (B, S, D), encoded once and never repeated. Packed, its states are (M, D): only the
attentions see the captions as rows.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from stg_jax.model.attention import Attention, KeyValue, Scattered
from stg_jax.model.dense import Dense
from stg_jax.model.dropout import Dropout
from stg_jax.model.packing import WHOLE, Packing
from stg_jax.model.windows import attend_packed


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
    def __call__(
        self, x_BSD: jax.Array, mask_BS: jax.Array, train: bool, num_parts: int = 0
    ) -> jax.Array:
        """Return (B, S, D) where positions attend to the real ones of mask (B, S).

        With `num_parts`, a position is one of P parts of a frame. It attends to the parts of its
        own frame, then to itself in all frames: of S = T * P positions each sees T + P.
        """
        drop = functools.partial(Dropout(self.dropout), deterministic=not train)

        def attended(x_XSD, mask_XS):
            attention = Attention(self.width, self.heads, self.dtype)
            update_XSD = attention(x_XSD, attention.project(x_XSD), mask_XS[..., None, :])
            return nn.LayerNorm(dtype=self.dtype)(x_XSD + drop(update_XSD))

        if num_parts:
            B, S, D = x_BSD.shape
            x_BTPD = attended(
                x_BSD.reshape(B, S // num_parts, num_parts, D), mask_BS.reshape(B, -1, num_parts)
            )
            x_BPTD = attended(x_BTPD.swapaxes(1, 2), mask_BS.reshape(B, -1, num_parts).mT)
            x_BSD = x_BPTD.swapaxes(1, 2).reshape(B, S, D)
        else:
            x_BSD = attended(x_BSD, mask_BS)
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
