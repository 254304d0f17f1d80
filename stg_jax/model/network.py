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
from stg_jax.model.encoders import SCENE_FUSIONS, ObjectEncoder, SceneEncoder, mean_of_objects
from stg_jax.model.graph import DIRECTIONS, GRAPHS, build_graph
from stg_jax.model.grid import GridEncoder, check_grid
from stg_jax.model.language_decoder import (
    Cache,
    CrossMemory,
    Entry,
    LanguageDecoder,
    Memory,
    word_logits,
)
from stg_jax.model.layout import Layout
from stg_jax.ops.packing import WHOLE, Packing

_CHOICES = {
    'branches': ('full', 'scene', 'object'),
    'fusion': ('none', 'concat'),
    'scene_fusion': SCENE_FUSIONS,
    'graph': GRAPHS,
    'graph_norm': ('none', 'layer'),
    'temporal_direction': DIRECTIONS,
    'object_memory': ('mean', 'nodes'),
    'scene_tokens': ('frames', 'grid'),
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
    # With defaults, so that configs of runs from before these options still describe a network.
    object_memory: str = 'mean'
    scene_tokens: str = 'frames'
    grid_frames: int = 1
    grid_mixings: int = 1
    grid_cells: int = 0
    grid_scale: float = 1.0

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
        if self.reads_grid:
            check_grid(self.grid_cells)

    @property
    def reads_grid(self) -> bool:
        """Return whether a decoder reads the cells of frames."""
        return self.scene_tokens == 'grid' and self.branches != 'object'

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


@struct.dataclass
class BranchSequence:
    """What a decoder reads of a batch of clips.

    Attributes:
      x_BSD: the sequence, without positions.
      mask_BS: True where it is real.
      mean_BD: float32, the mean of the features of real frames.
      layout: which frame each of the S positions describes.
    """

    x_BSD: jax.Array
    mask_BS: jax.Array
    mean_BD: jax.Array
    layout: Layout = struct.field(pytree_node=False)


class CaptioningModel(nn.Module):
    """Predict the words of clips given as a batch of features.

    A batch holds appearance (B, T, C2), motion (B, T, C3), object (B, T, N, Co), box (B, T, N, 4)
    and object_mask (B, T, N); a model without an object branch reads only the first two. With
    scene_tokens 'grid' it also holds grid (B, T, G, Cg).
    """

    spec: ModelSpec

    def setup(self):
        """Define the encoders that the spec's branches need and a decoder for each."""
        spec, dtype = self.spec, jnp.dtype(self.spec.dtype)
        if spec.branches != 'object':
            self.scene_encoder = SceneEncoder(spec.width, spec.scene_fusion, dtype)
        if spec.reads_grid:
            self.grid_encoder = GridEncoder(spec.width, spec.grid_frames, spec.grid_mixings, dtype)
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
            sequence = self.sequence(batch, name)
            memory = decoder.encode(sequence.x_BSD, sequence.mask_BS, train, sequence.layout)
            hidden_MD = decoder.hidden(token_BKL, decoder.read_memory(memory), train, packing)
            states[name] = BranchStates(hidden_MD, decoder.word_vectors(), sequence.mean_BD)
        return states

    def encode(self, batch: Mapping[str, jax.Array], branch: str) -> Memory:
        """Encode clips for stepwise decoding with the decoder named `branch`."""
        sequence = self.sequence(batch, branch)
        return self.decoders[branch].encode(
            sequence.x_BSD, sequence.mask_BS, train=False, layout=sequence.layout
        )

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

    def sequence(self, batch: Mapping[str, jax.Array], branch: str) -> BranchSequence:
        """Return the sequence that a decoder reads."""
        if branch == 'scene':
            return self._scene(batch)
        if branch == 'object':
            return self._object(batch)
        scene, objects = self._scene(batch), self._object(batch)
        x_BSD = jnp.concatenate([scene.x_BSD, objects.x_BSD], axis=1)
        mask_BS = jnp.concatenate([scene.mask_BS, objects.mask_BS], axis=1)
        layout = scene.layout.followed_by(objects.layout, same_time=False)
        return BranchSequence(x_BSD, mask_BS, _masked_mean(x_BSD, mask_BS), layout)

    def _scene(self, batch):
        appearance_scale, motion_scale, _ = self.spec.scale
        x_BSD = self.scene_encoder(
            self._scaled(batch['appearance'], appearance_scale),
            self._scaled(batch['motion'], motion_scale),
        )
        mean_BD = x_BSD.astype(jnp.float32).mean(1)
        T = batch['appearance'].shape[1]
        layout = Layout.of_frames(T, x_BSD.shape[1] // T)
        if self.spec.reads_grid:
            token_BGPD = self.grid_encoder(self._scaled(batch['grid'], self.spec.grid_scale))
            B, _, P, D = token_BGPD.shape
            x_BSD = jnp.concatenate([token_BGPD.reshape(B, -1, D), x_BSD], axis=1)
            tokens = Layout.of_parts(T, P, self.spec.grid_frames)
            layout = tokens.followed_by(layout, same_time=True)
        return BranchSequence(x_BSD, jnp.ones(x_BSD.shape[:2], bool), mean_BD, layout)

    def _object(self, batch):
        mask_BTN = batch['object_mask']
        graph = build_graph(
            batch['object'],
            batch['box'],
            mask_BTN,
            kind=self.spec.graph,
            direction=self.spec.temporal_direction,
        )
        input_BTNC = self._scaled(batch['object'], self.spec.scale[2])
        node_BTND = self.object_encoder.nodes(input_BTNC, graph)
        frame_BTD, mask_BT = mean_of_objects(node_BTND, mask_BTN), mask_BTN.any(-1)
        mean_BD = _masked_mean(frame_BTD, mask_BT)
        B, T, N = mask_BTN.shape
        if self.spec.object_memory == 'mean':
            return BranchSequence(frame_BTD, mask_BT, mean_BD, Layout.of_frames(T))
        # A clip without objects attends to all positions alike, and shall see zeros there.
        node_BTND = jnp.where(mask_BTN[..., None], node_BTND, 0)
        x_BSD, mask_BS = node_BTND.reshape(B, T * N, -1), mask_BTN.reshape(B, T * N)
        return BranchSequence(x_BSD, mask_BS, mean_BD, Layout.of_parts(T, N))

    def _scaled(self, x, scale):
        # Through float32: a feature near the float16 limit must not overflow on the way.
        return (x.astype(jnp.float32) / scale).astype(self.spec.dtype)


def _masked_mean(x_BSD, mask_BS):
    """Average the real positions of each row; zero where there is none."""
    weight_BS = mask_BS / jnp.maximum(mask_BS.sum(-1, keepdims=True), 1)
    return jnp.einsum('BS,BSD->BD', weight_BS, x_BSD.astype(jnp.float32))
