"""The language decoder of a branch: an encoder-decoder Transformer over the branch's sequence.

The word embedding is tied to the output projection, separately in each branch.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from stg_jax.model import transformer
from stg_jax.model.encoders import Layout
from stg_jax.ops.cached_attention import CachedWords, ClipMemory, KeyValue
from stg_jax.ops.dense import einsum_float32
from stg_jax.ops.dropout import Dropout
from stg_jax.ops.packing import Packing


@struct.dataclass
class Memory:
    """The encoded sequence of a batch of clips (B, S, D), and which positions are real (B, S)."""

    x_BSD: jax.Array
    mask_BS: jax.Array


@struct.dataclass
class CrossMemory:
    """Keys and values of the memory for every decoder layer, computed once per clip."""

    layers: tuple[KeyValue, ...]  # each (B, S, H, E)
    mask_BS: jax.Array


def word_logits(hidden_D: jax.Array, vector_VD: jax.Array) -> jax.Array:
    """Compute float32 logits (..., V), multiplied in the dtype of the states (..., D)."""
    return einsum_float32('...D,VD->...V', hidden_D, vector_VD.astype(hidden_D.dtype))


# Self-attention keys and values of each layer.
Entry = tuple[KeyValue, ...]  # (R, H, E), of the token that R prefixes read last
Cache = tuple[KeyValue, ...]  # (L, N, H, E), of all tokens before, by position, rows in any order


class LanguageDecoder(nn.Module):
    """Read a sequence of frame vectors and predict words, by teacher forcing or step by step."""

    vocab_size: int
    width: int
    heads: int
    feedforward: int
    num_encoder_layers: int
    num_decoder_layers: int
    dropout: float
    attention_dropout: float
    token_dropout: float  # share of the positions of the sequence that training hides
    max_length: int  # L: tokens that the decoder may read, BOS included
    dtype: jnp.dtype

    def setup(self):
        """Define the embedding and both stacks."""
        # Tied to the output, vectors this small give logits of unit variance; on the way in they
        # are multiplied by sqrt(width) again, as in Vaswani et al.
        scale = nn.initializers.normal(self.width**-0.5)
        # In float32: the gradient of a word vector is a sum over all its occurrences, thousands for
        # BOS. bfloat16 cannot hold such a sum (3,000 ones add up to 256), and a GPU takes a hundred
        # times longer to compute it.
        self.embed = nn.Embed(self.vocab_size, self.width, embedding_init=scale)
        rates = (self.dropout, self.attention_dropout)
        sizes = (self.width, self.heads, self.feedforward, *rates, self.dtype)
        self.encoder = [transformer.EncoderLayer(*sizes) for _ in range(self.num_encoder_layers)]
        self.decoder = [transformer.DecoderLayer(*sizes) for _ in range(self.num_decoder_layers)]
        self.drop = Dropout(self.dropout)

    def encode(
        self, feature_BSD: jax.Array, mask_BS: jax.Array, train: bool, layout: Layout
    ) -> Memory:
        """Encode a branch's sequence; positions outside the mask are not attended to."""
        if train and self.token_dropout:
            mask_BS = self._without_some(mask_BS)
        time_SD = transformer.sinusoids(max(layout.time) + 1, self.width)[list(layout.time)]
        # Positions of time only: the objects of a frame share one, so their order cannot matter.
        x_BSD = self.drop(feature_BSD + time_SD.astype(self.dtype), deterministic=not train)
        for layer in self.encoder:
            x_BSD = layer(x_BSD, mask_BS, train)
        return Memory(x_BSD, mask_BS)

    def _without_some(self, mask_BS: jax.Array) -> jax.Array:
        keep = jax.random.bernoulli(self.make_rng('dropout'), 1 - self.token_dropout, mask_BS.shape)
        # A clip of which nothing is left stays whole: there must be something to attend to.
        is_empty_B1 = ~(mask_BS & keep).any(-1, keepdims=True)
        return mask_BS & (keep | is_empty_B1)

    def read_memory(self, memory: Memory) -> CrossMemory:
        """Compute every layer's cross-attention keys and values."""
        return CrossMemory(tuple(d.read_memory(memory.x_BSD) for d in self.decoder), memory.mask_BS)

    def hidden(
        self,
        token_BKL: jax.Array,
        memory: CrossMemory,
        train: bool,
        packing: Packing,
    ) -> jax.Array:
        """Compute the states (M, D) of packed tokens; each has read its caption up to itself.

        A packing may leave out tokens only at the end of a caption.
        """
        L = token_BKL.shape[-1]
        position_BKLD = jnp.broadcast_to(
            transformer.sinusoids(L, self.width), (*token_BKL.shape, self.width)
        )
        x_MD = self._embed(packing.pack(token_BKL), packing.pack(position_BKLD))
        x_MD = self.drop(x_MD, deterministic=not train)
        for layer, read in zip(self.decoder, memory.layers, strict=True):
            x_MD = layer(x_MD, read, memory.mask_BS, train, packing)
        return x_MD

    def word_vectors(self) -> jax.Array:
        """Return the float32 vectors (V, D) that embed and score words."""
        return self.embed.embedding

    def logits(self, hidden_D: jax.Array) -> jax.Array:
        """Compute float32 logits (..., V) of the next word from states (..., D)."""
        return word_logits(hidden_D, self.word_vectors())

    def empty_cache(self, num_rows: int) -> Cache:
        """Allocate the self-attention cache of up to `num_rows` prefixes."""
        shape = (self.max_length, num_rows, self.heads, self.width // self.heads)
        zeros = jnp.zeros(shape, self.dtype)
        return tuple(KeyValue(zeros, zeros) for _ in range(self.num_decoder_layers))

    def step(
        self,
        token_R: jax.Array,
        position: jax.Array,
        cache: Cache,
        trail_RL: jax.Array,
        memory: CrossMemory,
        clip_R: jax.Array,
    ) -> tuple[jax.Array, Entry]:
        """Read one more token of R prefixes.

        Args:
          token_R: the tokens.
          position: of all of them, an int32 scalar.
          cache: entries of the tokens before.
          trail_RL: row of the cache where the entry of a prefix is, at each position before.
          memory: of B clips.
          clip_R: which of them each prefix describes.

        Returns:
          float32 logits (R, V) of the next token, and this token's entry for the cache.
        """
        here_D = jnp.asarray(transformer.sinusoids(self.max_length, self.width))[position]
        x_RD = self._embed(token_R, here_D)
        # Later positions of the cache are still empty, or left over from a search before.
        read_1L = jnp.arange(self.max_length)[None] <= position
        # Hypotheses of one clip share its keys and values: they are looked up, never repeated.
        clip_mask_RS = memory.mask_BS[clip_R]
        entry = []
        for layer, past, clip in zip(self.decoder, cache, memory.layers, strict=True):
            new = layer.read_self(x_RD)
            words = CachedWords(read_1L, position + 1, past, trail_RL, new)
            clips = ClipMemory(clip_mask_RS, clip_mask_RS.shape[1], clip, clip_R)
            x_RD = layer.step(x_RD, words, clips)
            entry.append(new)
        return self.logits(x_RD), tuple(entry)

    def _embed(self, token_L, position_LD):
        return (self.embed(token_L) * self.width**0.5 + position_LD).astype(self.dtype)
