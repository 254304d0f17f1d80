"""The language decoder of a branch: an encoder-decoder Transformer over the branch's sequence.

Words are embedded by the same matrix that scores them (tied), separately in each branch.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from stg_jax.model import layers
from stg_jax.model.layers import KeyValue


@struct.dataclass
class Memory:
    """What a clip offers the decoder: encoded positions (B, S, D), and which are real (B, S)."""

    x_BSD: jax.Array
    mask_BS: jax.Array


@struct.dataclass
class CrossMemory:
    """Keys and values of the memory for every decoder layer, computed once per clip."""

    layers: tuple[KeyValue, ...]  # each (B, S, H, E)
    mask_BS: jax.Array


Cache = tuple[KeyValue, ...]  # self-attention of each layer, each (B, K, L, H, E)


class LanguageDecoder(nn.Module):
    """Read a sequence of frame vectors and predict words, by teacher forcing or step by step."""

    vocab_size: int
    width: int
    heads: int
    feedforward: int
    num_encoder_layers: int
    num_decoder_layers: int
    dropout: float
    max_length: int  # L: tokens that the decoder may read, BOS included
    dtype: jnp.dtype

    def setup(self):
        """Define the embedding and both stacks."""
        scale = nn.initializers.normal(self.width**-0.5)
        self.embed = nn.Embed(self.vocab_size, self.width, dtype=self.dtype, embedding_init=scale)
        sizes = (self.width, self.heads, self.feedforward, self.dropout, self.dtype)
        self.encoder = [layers.EncoderLayer(*sizes) for _ in range(self.num_encoder_layers)]
        self.decoder = [layers.DecoderLayer(*sizes) for _ in range(self.num_decoder_layers)]
        self.drop = nn.Dropout(self.dropout)

    def encode(self, feature_BSD: jax.Array, mask_BS: jax.Array, train: bool) -> Memory:
        """Encode a branch's sequence; positions outside the mask are not attended to."""
        position_SD = layers.sinusoids(feature_BSD.shape[1], self.width).astype(self.dtype)
        x_BSD = self.drop(feature_BSD + position_SD, deterministic=not train)
        for layer in self.encoder:
            x_BSD = layer(x_BSD, mask_BS, train)
        return Memory(x_BSD, mask_BS)

    def read_memory(self, memory: Memory) -> CrossMemory:
        """Compute every layer's cross-attention keys and values."""
        return CrossMemory(tuple(d.read_memory(memory.x_BSD) for d in self.decoder), memory.mask_BS)

    def hidden(self, token_BKL: jax.Array, memory: CrossMemory, train: bool) -> jax.Array:
        """Return states (B, K, L, D); the one at l has read the tokens up to l (causal)."""
        L = token_BKL.shape[-1]
        x_BKLD = self._embed(token_BKL, layers.sinusoids(L, self.width))
        x_BKLD = self.drop(x_BKLD, deterministic=not train)
        causal_LL = jnp.tril(jnp.ones((L, L), bool))
        for layer, read in zip(self.decoder, memory.layers, strict=True):
            own = layer.read_self(x_BKLD)
            x_BKLD = layer(x_BKLD, own, causal_LL, read, memory.mask_BS, train)
        return x_BKLD

    def logits(self, hidden_D: jax.Array) -> jax.Array:
        """Return float32 logits (..., V) of the next word for states (..., D)."""
        return jnp.einsum(
            '...D,VD->...V',
            hidden_D,
            self.embed.embedding.astype(self.dtype),
            preferred_element_type=jnp.float32,
        )

    def empty_cache(self, batch_size: int, num_beams: int) -> Cache:
        """Return the zero self-attention cache of B clips and K beams."""
        shape = (batch_size, num_beams, self.max_length, self.heads, self.width // self.heads)
        zeros = jnp.zeros(shape, self.dtype)
        return tuple(KeyValue(zeros, zeros) for _ in range(self.num_decoder_layers))

    def step(
        self, token_BK: jax.Array, position: jax.Array, cache: Cache, memory: CrossMemory
    ) -> tuple[jax.Array, Cache]:
        """Read one more token per beam; return logits (B, K, V) of the next and the new cache."""
        position_LD = jnp.asarray(layers.sinusoids(self.max_length, self.width))
        here_1D = jax.lax.dynamic_slice_in_dim(position_LD, position, 1)
        x_BK1D = self._embed(token_BK[..., None], here_1D)
        read_1L = jnp.arange(self.max_length)[None] <= position
        new_cache = []
        for layer, own, read in zip(self.decoder, cache, memory.layers, strict=True):
            new = layer.read_self(x_BK1D)
            own = jax.tree.map(
                lambda old, x: jax.lax.dynamic_update_slice_in_dim(old, x, position, axis=2),
                own,
                new,
            )
            x_BK1D = layer(x_BK1D, own, read_1L, read, memory.mask_BS, False)
            new_cache.append(own)
        return self.logits(x_BK1D[:, :, 0]), tuple(new_cache)

    def _embed(self, token_L, position_LD):
        return self.embed(token_L) * self.width**0.5 + position_LD.astype(self.dtype)
