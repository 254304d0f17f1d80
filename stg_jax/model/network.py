"""The whole network: a scene branch, an object branch, and a language decoder for each.

The scene branch is the student that is deployed; the object branch is the teacher. Tensor
letters and the source of every formula stand in docs/model.md.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from stg_jax.config import ModelConfig
from stg_jax.model.encoders import ObjectEncoder, SceneEncoder
from stg_jax.model.graph import build_graph
from stg_jax.model.language_decoder import (
    Cache,
    CrossMemory,
    Entry,
    LanguageDecoder,
    Memory,
    word_logits,
)
from stg_jax.ops.packing import WHOLE, Packing

DeviceBatch = Mapping[str, jax.Array]  # arrays by name, a row per clip


@struct.dataclass
class BranchOutput:
    """Of one decoder: next-word logits (B, K, L, V) and the mean of its features (B, D)."""

    logits_BKLV: jax.Array
    feature_BD: jax.Array


@struct.dataclass
class BranchStates:
    """What the logits of one decoder are made of, and the mean of its features (B, D).

    Attributes:
      hidden_MD: states of the packed words; (B, K, L, D) without a packing.
      vector_VD: float32 vectors of all words; a logit is their product with a state.
      feature_BD: float32.
    """

    hidden_MD: jax.Array
    vector_VD: jax.Array
    feature_BD: jax.Array


class CaptioningModel(nn.Module):
    """Predict the words of clips given as a batch of features.

    A batch holds appearance (B, T, C2), motion (B, T, C3), object (B, T, N, Co), box (B, T, N, 4)
    and object_mask (B, T, N); a model without an object branch reads only the first two.

    Attributes:
      config: the architecture.
      max_words: of a caption.
      vocab_size: number of words, special tokens included.
      scale: of appearance, motion and object in the data; inputs are divided by it.
    """

    config: ModelConfig
    max_words: int
    vocab_size: int
    scale: tuple[float, float, float]

    def setup(self):
        """Define the encoders that the branches need and a decoder for each."""
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        if config.branches != 'object':
            self.scene_encoder = SceneEncoder(config.width, config.scene_fusion, dtype)
        if config.branches != 'scene':
            self.object_encoder = ObjectEncoder(
                config.width, config.graph_layers, config.graph_norm, dtype
            )
        self.decoders = {
            name: LanguageDecoder(
                vocab_size=self.vocab_size,
                width=config.width,
                heads=config.heads,
                feedforward=config.feedforward,
                num_encoder_layers=config.encoder_layers,
                num_decoder_layers=config.decoder_layers,
                dropout=config.dropout,
                max_length=self.max_words + 1,
                dtype=dtype,
            )
            for name in config.decoders
        }

    def __call__(
        self, batch: DeviceBatch, token_BKL: jax.Array, train: bool
    ) -> dict[str, BranchOutput]:
        """Return, by decoder name, the logits of the word after each of `token_BKL`."""
        return {
            name: BranchOutput(word_logits(of.hidden_MD, of.vector_VD), of.feature_BD)
            for name, of in self.states(batch, token_BKL, train).items()
        }

    def states(
        self,
        batch: DeviceBatch,
        token_BKL: jax.Array,
        train: bool,
        packing: Packing = WHOLE,
    ) -> dict[str, BranchStates]:
        """Return, by decoder name, the states from which the logits of packed words follow."""
        states = {}
        for name, decoder in self.decoders.items():
            feature_BSD, mask_BS = self.sequence(batch, name)
            memory = decoder.read_memory(decoder.encode(feature_BSD, mask_BS, train))
            hidden_MD = decoder.hidden(token_BKL, memory, train, packing)
            states[name] = BranchStates(
                hidden_MD, decoder.word_vectors(), _masked_mean(feature_BSD, mask_BS)
            )
        return states

    def encode(self, batch: DeviceBatch, branch: str) -> Memory:
        """Encode clips for stepwise decoding with the decoder named `branch`."""
        return self.decoders[branch].encode(*self.sequence(batch, branch), train=False)

    def read_memory(self, memory: Memory, branch: str) -> CrossMemory:
        """Return the keys and values that all decoding steps of a branch share."""
        return self.decoders[branch].read_memory(memory)

    def empty_cache(self, num_rows: int, branch: str) -> Cache:
        """Return the cache before the first decoding step of up to `num_rows` prefixes."""
        return self.decoders[branch].empty_cache(num_rows)

    def step(
        self,
        token_R: jax.Array,
        position: jax.Array,
        cache: Cache,
        trail_RL: jax.Array,
        memory: CrossMemory,
        clip_R: jax.Array,
        branch: str,
    ) -> tuple[jax.Array, Entry]:
        """Read one token of R prefixes; see `LanguageDecoder.step`."""
        return self.decoders[branch].step(token_R, position, cache, trail_RL, memory, clip_R)

    def sequence(self, batch: DeviceBatch, branch: str) -> tuple[jax.Array, jax.Array]:
        """Return the sequence (B, S, D) that a decoder reads, and which of it is real (B, S)."""
        if branch == 'scene':
            return self._scene(batch)
        if branch == 'object':
            return self._object(batch)
        parts, masks = zip(self._scene(batch), self._object(batch), strict=True)
        return jnp.concatenate(parts, axis=1), jnp.concatenate(masks, axis=1)

    def _scene(self, batch):
        appearance_scale, motion_scale, _ = self.scale
        feature_BSD = self.scene_encoder(
            self._scaled(batch['appearance'], appearance_scale),
            self._scaled(batch['motion'], motion_scale),
        )
        return feature_BSD, jnp.ones(feature_BSD.shape[:2], bool)

    def _object(self, batch):
        mask_BTN = batch['object_mask']
        graph = build_graph(
            batch['object'],
            batch['box'],
            mask_BTN,
            kind=self.config.graph,
            direction=self.config.temporal_direction,
        )
        node_BTNC = self._scaled(batch['object'], self.scale[2])
        return self.object_encoder(node_BTNC, mask_BTN, graph), mask_BTN.any(-1)

    def _scaled(self, x, scale):
        # Through float32: a feature near the float16 limit must not overflow on the way.
        return (x.astype(jnp.float32) / scale).astype(self.config.dtype)


def _masked_mean(x_BSD, mask_BS):
    """Average the real positions of each row; zero where there is none."""
    weight_BS = mask_BS / jnp.maximum(mask_BS.sum(-1, keepdims=True), 1)
    return jnp.einsum('BS,BSD->BD', weight_BS, x_BSD.astype(jnp.float32))
