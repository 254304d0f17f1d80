"""The whole network: a scene branch, an object branch, and a language decoder for each.

The scene branch is the student that is deployed; the object branch is the teacher. Tensor
letters and the source of every formula stand in docs/model.md.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from stg_jax.errors import UserError
from stg_jax.model.encoders import SCENE_FUSIONS, ObjectEncoder, SceneEncoder
from stg_jax.model.graph import DIRECTIONS, GRAPHS, build_graph
from stg_jax.model.language_decoder import (
    Cache,
    CrossMemory,
    Entry,
    LanguageDecoder,
    Memory,
    word_logits,
)
from stg_jax.ops.packing import WHOLE, Packing

_CHOICES = {
    'branches': ('full', 'scene', 'object'),
    'fusion': ('none', 'concat'),
    'scene_fusion': SCENE_FUSIONS,
    'graph': GRAPHS,
    'graph_norm': ('none', 'layer'),
    'temporal_direction': DIRECTIONS,
    'dtype': ('float32', 'bfloat16'),
}


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """What defines the network: `config.model` (configs/common.py) and three facts of the data."""

    branches: str
    fusion: str
    width: int
    heads: int
    feedforward: int
    encoder_layers: int
    decoder_layers: int
    dropout: float
    scene_fusion: str
    graph: str
    graph_layers: int
    graph_norm: str
    temporal_direction: str
    dtype: str
    max_words: int
    vocab_size: int
    scale: tuple[float, float, float]  # of appearance, motion, object; inputs are divided by it

    def __post_init__(self):
        """Refuse a value that names no variant of the network."""
        for key, choices in _CHOICES.items():
            if (value := getattr(self, key)) not in choices:
                raise UserError(f'config.model.{key} is {value!r}; it can be {", ".join(choices)}')
        if self.width % self.heads or self.width % 2:
            raise UserError(
                f'config.model.width is {self.width}; '
                f'it must be even and a multiple of heads = {self.heads}'
            )
        if self.fusion == 'concat' and self.branches != 'full':
            raise UserError("config.model.fusion = 'concat' needs config.model.branches = 'full'")

    @property
    def decoders(self) -> tuple[str, ...]:
        """Names of the language decoders; the first is the one deployed."""
        if self.fusion == 'concat':
            return ('joint',)
        return {'full': ('scene', 'object'), 'scene': ('scene',), 'object': ('object',)}[
            self.branches
        ]

    def decoder(self, name: str | None = None) -> str:
        """Return the name of a decoder after checking it; without one, that which is deployed."""
        if name is None:
            return self.decoders[0]
        if name not in self.decoders:
            raise UserError(
                f'this run has no branch {name!r}: it can be {", ".join(self.decoders)}'
            )
        return name


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
    """

    spec: ModelSpec

    def setup(self):
        """Define the encoders that the spec's branches need and a decoder for each."""
        spec, dtype = self.spec, jnp.dtype(self.spec.dtype)
        if spec.branches != 'object':
            self.scene_encoder = SceneEncoder(spec.width, spec.scene_fusion, dtype)
        if spec.branches != 'scene':
            self.object_encoder = ObjectEncoder(
                spec.width, spec.graph_layers, spec.graph_norm, dtype
            )
        self.decoders = {
            name: LanguageDecoder(
                vocab_size=spec.vocab_size,
                width=spec.width,
                heads=spec.heads,
                feedforward=spec.feedforward,
                num_encoder_layers=spec.encoder_layers,
                num_decoder_layers=spec.decoder_layers,
                dropout=spec.dropout,
                max_length=spec.max_words + 1,
                dtype=dtype,
            )
            for name in spec.decoders
        }

    def __call__(
        self, batch: Mapping[str, jax.Array], token_BKL: jax.Array, train: bool
    ) -> dict[str, BranchOutput]:
        """Return, by decoder name, the logits of the word after each of `token_BKL`."""
        return {
            name: BranchOutput(word_logits(of.hidden_MD, of.vector_VD), of.feature_BD)
            for name, of in self.states(batch, token_BKL, train).items()
        }

    def states(
        self,
        batch: Mapping[str, jax.Array],
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

    def encode(self, batch: Mapping[str, jax.Array], branch: str) -> Memory:
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

    def sequence(self, batch: Mapping[str, jax.Array], branch: str) -> tuple[jax.Array, jax.Array]:
        """Return the sequence (B, S, D) that a decoder reads, and which of it is real (B, S)."""
        if branch == 'scene':
            return self._scene(batch)
        if branch == 'object':
            return self._object(batch)
        parts, masks = zip(self._scene(batch), self._object(batch), strict=True)
        return jnp.concatenate(parts, axis=1), jnp.concatenate(masks, axis=1)

    def _scene(self, batch):
        appearance_scale, motion_scale, _ = self.spec.scale
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
            kind=self.spec.graph,
            direction=self.spec.temporal_direction,
        )
        node_BTNC = self._scaled(batch['object'], self.spec.scale[2])
        return self.object_encoder(node_BTNC, mask_BTN, graph), mask_BTN.any(-1)

    def _scaled(self, x, scale):
        # Through float32: a feature near the float16 limit must not overflow on the way.
        return (x.astype(jnp.float32) / scale).astype(self.spec.dtype)


def _masked_mean(x_BSD, mask_BS):
    """Average the real positions of each row; zero where there is none."""
    weight_BS = mask_BS / jnp.maximum(mask_BS.sum(-1, keepdims=True), 1)
    return jnp.einsum('BS,BSD->BD', weight_BS, x_BSD.astype(jnp.float32))
