"""The whole network: a scene branch, an object branch, and a language decoder for each.

The scene branch is the student that is deployed; the object branch is the teacher. Tensor
letters and the source of every formula are in docs/model.md.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from stg_jax.config import ModelConfig
from stg_jax.model.encoders import GridEncoder, Layout, ObjectEncoder, SceneEncoder, mean_of_objects
from stg_jax.model.graph import build_graph
from stg_jax.model.language_decoder import (
    Cache,
    CrossMemory,
    Entry,
    LanguageDecoder,
    Memory,
    word_logits,
)
from stg_jax.ops.packing import Packing

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
      hidden_MD: states of the packed tokens.
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

    Attributes:
      config: the architecture.
      max_words: of a caption.
      vocab_size: number of words, special tokens included.
      scale: of appearance, motion and object in the data; inputs are divided by it.
      grid_scale: of the grid in the data, likewise.
    """

    config: ModelConfig
    max_words: int
    vocab_size: int
    scale: tuple[float, float, float]
    grid_scale: float = 1.0

    @property
    def scales(self) -> dict[str, float]:
        """Standard deviation of each kind of features, by its name in a batch."""
        kinds = dict(zip(('appearance', 'motion', 'object'), self.scale, strict=True))
        return kinds | {'grid': self.grid_scale}

    def setup(self):
        """Define the encoders that the branches need and a decoder for each."""
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        if config.branches != 'object':
            self.scene_encoder = SceneEncoder(config.width, config.scene_fusion, dtype)
        if config.reads_grid:
            self.grid_encoder = GridEncoder(
                config.width, config.grid_frames, config.grid_poolings, dtype
            )
        if config.branches != 'scene':
            self.object_encoder = ObjectEncoder(
                config.width, config.graph_layers, config.graph_norm, dtype
            )
        # Separate decoders, not one with two inputs: the student is deployed without the teacher's.
        self.decoders = {
            name: LanguageDecoder(
                vocab_size=self.vocab_size,
                width=config.width,
                heads=config.heads,
                feedforward=config.feedforward,
                num_encoder_layers=config.encoder_layers,
                num_decoder_layers=config.decoder_layers,
                dropout=config.dropout,
                attention_dropout=config.attention_dropout,
                token_dropout=config.token_dropout,
                max_length=self.max_words + 1,
                dtype=dtype,
            )
            for name in config.decoders
        }

    def __call__(
        self, batch: DeviceBatch, token_BKL: jax.Array, train: bool
    ) -> dict[str, BranchOutput]:
        """Compute, by decoder name, the logits of the word after each of `token_BKL`."""

        def output(of: BranchStates) -> BranchOutput:
            logits_MV = word_logits(of.hidden_MD, of.vector_VD)
            return BranchOutput(logits_MV.reshape(*token_BKL.shape, -1), of.feature_BD)

        states = self.states(batch, token_BKL, train)
        return {name: output(of) for name, of in states.items()}

    def states(
        self,
        batch: DeviceBatch,
        token_BKL: jax.Array,
        train: bool,
        packing: Packing | None = None,
        names: Sequence[str] | None = None,
    ) -> dict[str, BranchStates]:
        """Compute, by decoder name, the states from which the logits of packed tokens follow.

        `names` selects decoders; by default all are computed.
        """
        packing = Packing(token_BKL.shape) if packing is None else packing
        states = {}
        for name in names or self.config.decoders:
            decoder = self.decoders[name]
            sequence = self.sequence(batch, name)
            memory = decoder.encode(sequence.x_BSD, sequence.mask_BS, train, sequence.layout)
            hidden_MD = decoder.hidden(token_BKL, decoder.read_memory(memory), train, packing)
            states[name] = BranchStates(hidden_MD, decoder.word_vectors(), sequence.mean_BD)
        return states

    def encode(self, batch: DeviceBatch, branch: str) -> Memory:
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

    def sequence(self, batch: DeviceBatch, branch: str) -> BranchSequence:
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
        appearance_scale, motion_scale, _ = self.scale
        x_BSD = self.scene_encoder(
            self._scaled(batch['appearance'], appearance_scale),
            self._scaled(batch['motion'], motion_scale),
        )
        # Of the frame vectors only: the L2 distillation compares these with the objects' mean,
        # whether or not the decoder also reads grid tokens.
        mean_BD = x_BSD.astype(jnp.float32).mean(1)
        T = batch['appearance'].shape[1]
        layout = Layout.of_frames(T, x_BSD.shape[1] // T)
        if self.config.reads_grid:
            token_BGPD = self.grid_encoder(self._scaled(batch['grid'], self.grid_scale))
            B, _, P, D = token_BGPD.shape
            # The frame vectors follow the tokens: they hold the motion, which cells may lack.
            x_BSD = jnp.concatenate([token_BGPD.reshape(B, -1, D), x_BSD], axis=1)
            tokens = Layout.of_parts(T, P, self.config.grid_frames)
            layout = tokens.followed_by(layout, same_time=True)
        return BranchSequence(x_BSD, jnp.ones(x_BSD.shape[:2], bool), mean_BD, layout)

    def _object(self, batch):
        mask_BTN = batch['object_mask']
        # From the raw features, before scaling and projection: the graph is a constant of the clip
        # and takes no gradient.
        graph = build_graph(
            batch['object'],
            batch['box'],
            mask_BTN,
            kind=self.config.graph,
            direction=self.config.temporal_direction,
        )
        input_BTNC = self._scaled(batch['object'], self.scale[2])
        box_BTN4 = batch['box'] if self.config.box_embedding else None
        node_BTND = self.object_encoder(input_BTNC, graph, box_BTN4)
        frame_BTD, mask_BT = mean_of_objects(node_BTND, mask_BTN), mask_BTN.any(-1)
        mean_BD = _masked_mean(frame_BTD, mask_BT)
        B, T, N = mask_BTN.shape
        if self.config.object_memory == 'mean':
            return BranchSequence(frame_BTD, mask_BT, mean_BD, Layout.of_frames(T))
        # The mean forgets which color belongs to which shape; the nodes keep it.
        # A clip without objects attends to all positions alike, and shall see zeros there.
        node_BTND = jnp.where(mask_BTN[..., None], node_BTND, 0)
        x_BSD, mask_BS = node_BTND.reshape(B, T * N, -1), mask_BTN.reshape(B, T * N)
        return BranchSequence(x_BSD, mask_BS, mean_BD, Layout.of_parts(T, N))

    def _scaled(self, x, scale):
        # Through float32: a feature near the float16 limit must not overflow on the way.
        return (x.astype(jnp.float32) / scale).astype(self.config.dtype)


def _masked_mean(x_BSD, mask_BS):
    """Average the real positions of each row; zero where there is none."""
    weight_BS = mask_BS / jnp.maximum(mask_BS.sum(-1, keepdims=True), 1)
    return jnp.einsum('BS,BSD->BD', weight_BS, x_BSD.astype(jnp.float32))
