"""Self-critical training: raise the expected CIDEr of captions that the network itself samples.

The gradient is that of REINFORCE, with the mean reward of the other samples of a clip as baseline
(Rennie et al., "Self-critical Sequence Training", CVPR 2017; Luo, "A Better Variant of
Self-Critical Sequence Training", 2020). Some cross-entropy keeps the captions fluent.

A step is three programs: `draw` samples captions, the gradient of the cross-entropy is computed
while the host scores the samples, and `update` adds the gradient of the expected reward. Samples
and update use the same parameters, so a step still depends only on its state and batch.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from stg_jax.config import Config
from stg_jax.data.vocab import BOS, EOS, PAD, SPECIAL, Vocabulary
from stg_jax.decode.generate import encode_clips
from stg_jax.decode.sampling import sample
from stg_jax.evaluate.fast_metrics import PreparedReferences
from stg_jax.model.losses import Words, objective
from stg_jax.model.network import CaptioningModel, DeviceBatch
from stg_jax.ops.packing import Packing
from stg_jax.parallel import mapped, sharding
from stg_jax.parallel.precompile import Precompiler
from stg_jax.train.multistep import BatchShapes
from stg_jax.train.step import Metrics, TrainState, apply_gradient, make_gradient, metrics_of

PyTree = Any
_OF_CAPTIONS = ('tokens', 'packed_position', 'caption_weight')


class SelfCritical:
    """Takes self-critical steps on the devices of a mesh; used in place of `multistep.Dispatcher`.

    Args:
      model: the network; its deployed decoder draws the captions.
      optimizer: turns gradients into updates.
      config: the config of the run.
      rewards: scores samples.
      mesh: the devices.
      programs: compiles and runs the programs of a step.
      **options: options of `make_gradient`.
    """

    def __init__(
        self,
        model: CaptioningModel,
        optimizer: optax.GradientTransformation,
        config: Config,
        rewards: 'Rewards',
        mesh: sharding.Mesh,
        programs: Precompiler,
        **options: Any,
    ):
        self._rewards, self._mesh, self._programs = rewards, mesh, programs
        self._has_xe = config.scst.xe_weight > 0
        mean_gradient = make_gradient(model, config.loss, **options)
        self._xe_gradient = mapped.summed_over_clips(
            lambda inputs, batch: mean_gradient(inputs[0], inputs[1], batch), mesh
        )
        self._draw = mapped.mapped_over_clips(make_draw(model, config), mesh)
        self._update = mapped.pmapped(make_update(model, optimizer, config), mesh, num_replicated=2)

    def dispatch(
        self, state: TrainState, batches: Sequence[DeviceBatch], ids: Sequence[np.ndarray]
    ) -> tuple[TrainState, Metrics]:
        """Take one step; the arrays of `state` are donated. See `Dispatcher.dispatch`."""
        (batch,), (clip_B,) = batches, ids
        inputs = state.params, state.step
        features = _features_of(batch)
        drawn_BSL = self._programs.call(self._draw, inputs, features)
        of_xe = None
        if self._has_xe:
            # Dispatched before the host needs the samples: the devices compute while it scores.
            of_xe = self._programs.call(self._xe_gradient, inputs, batch)
        rewarded = self._rewards(clip_B, sharding.local_rows(drawn_BSL))
        rewarded = sharding.shard_batch(dataclasses.asdict(rewarded), self._mesh)
        return self._programs.call(self._update, state, of_xe, features | rewarded)

    def expect(self, state: TrainState, batches: Sequence[BatchShapes]) -> None:
        """Start to compile the programs for a batch of these shapes."""
        (batch,), inputs = batches, (state.params, state.step)
        self._programs.expect(self._draw, inputs, _features_of(batch))
        if self._has_xe:
            self._programs.expect(self._xe_gradient, inputs, batch)


def _features_of(batch):
    return {name: x for name, x in batch.items() if name not in _OF_CAPTIONS}


@dataclasses.dataclass(frozen=True)
class Rewarded:
    """Samples of B clips and their rewards, which are zero for padding clips.

    Attributes:
      tokens: (B, S, L + 1) int32: BOS, words, EOS where the network chose it, PAD.
      caption_weight: (B, S) float32, the advantage: the reward of a sample minus the mean reward of
        the others.
      reward: (B, S) float32, CIDEr-D in [0, 10].
      is_sample: (B, S) float32, 1 for samples of real clips.
    """

    tokens: np.ndarray
    caption_weight: np.ndarray
    reward: np.ndarray
    is_sample: np.ndarray


class Rewards:
    """The CIDEr-D of samples against the captions of the train split.

    The end of a caption counts as a word, in references and document frequencies too. Without it, a
    caption that stops after 'a man is playing a' scores higher than a whole sentence.

    Args:
      captions: of all clips of the train split; clips without captions have no reward.
      vocab: the vocabulary.
    """

    def __init__(self, captions: Mapping[str, Sequence[str]], vocab: Vocabulary):
        self._vocab, end = vocab, f' {SPECIAL[EOS]}'
        worded = {clip: texts for clip, texts in captions.items() if any(map(str.split, texts))}
        self._known = worded.keys()
        self._references = PreparedReferences(
            {clip: [text + end for text in texts] for clip, texts in worded.items()}
        )
        self._end = end

    def __call__(self, clip_B: np.ndarray, drawn_BSL: np.ndarray) -> Rewarded:
        """Score the samples of clips, given by id; '' is a padding clip."""
        is_real_B = np.array([clip in self._known for clip in clip_B])
        drawn_BSL = np.where(is_real_B[:, None, None], drawn_BSL, PAD)
        # At the maximum length the sampler forces EOS: the network did not choose it.
        drawn_BSL[..., -1] = PAD
        B, S, _ = drawn_BSL.shape
        reward_BS = np.zeros((B, S))
        if is_real_B.any():
            clips = np.repeat(clip_B[is_real_B], S)
            texts = [
                self._text(token_L) for token_L in drawn_BSL[is_real_B].reshape(len(clips), -1)
            ]
            reward_BS[is_real_B] = self._references.cider(list(clips), texts).reshape(-1, S)
        baseline_BS = (reward_BS.sum(1, keepdims=True) - reward_BS) / (S - 1)
        return Rewarded(
            tokens=np.pad(drawn_BSL, [(0, 0), (0, 0), (1, 0)], constant_values=BOS),
            caption_weight=(reward_BS - baseline_BS).astype(np.float32),
            reward=reward_BS.astype(np.float32),
            is_sample=np.repeat(is_real_B[:, None], S, axis=1).astype(np.float32),
        )

    def _text(self, token_L: np.ndarray) -> str:
        return self._vocab.decode(token_L.tolist()) + self._end * (EOS in token_L)


def make_draw(model: CaptioningModel, config: Config) -> Any:
    """Build `draw((params, step), batch)`: samples (B, S, L) of a device's clips.

    They depend on the seed, the step and the row of the global batch, not on the number of devices.
    """
    branch = model.config.decoder()

    def draw(params_and_step: tuple[PyTree, jax.Array], batch: DeviceBatch) -> jax.Array:
        params, step = params_and_step
        num_clips = batch['appearance'].shape[0]
        key = jax.random.fold_in(jax.random.key(config.seed), step)
        logits_fn, cache = encode_clips(model, params, batch, branch, config.scst.samples)
        found = sample(
            logits_fn,
            cache,
            jax.random.bits(key, (), jnp.uint32),
            batch_size=num_clips,
            num_samples=config.scst.samples,
            max_words=model.max_words,
            temperature=1.0,
            length_penalty=0.0,
            clip_B=jax.lax.axis_index(sharding.AXIS) * num_clips + jnp.arange(num_clips),
        )
        return found.token_BKL

    return draw


def make_update(
    model: CaptioningModel, optimizer: optax.GradientTransformation, config: Config
) -> Any:
    """Build `update(state, of_xe, batch) -> (state, metrics)`, to be mapped over the axis `AXIS`.

    `of_xe` holds the terms and the gradient of the cross-entropy, or is None; the batch has the
    arrays of `Rewarded` beside features.
    """
    branch = model.config.decoder()
    # A policy gradient is that of a cross-entropy in which captions are weighted by advantages.
    policy_loss = dataclasses.replace(config.loss, label_smoothing=0.0, scene_weight=1.0)

    def policy_objective(params, batch):
        token_BSL = batch['tokens']
        target_BSL, real_BSL = token_BSL[..., 1:], token_BSL[..., 1:] != PAD
        # Without dropout, so that the gradient is of the distribution that was sampled from.
        inputs = batch, token_BSL[..., :-1], False
        states: Any = model.apply({'params': params}, *inputs, names=(branch,), method='states')
        has_object_B = batch['object_mask'].any((1, 2))
        words = Words.of(target_BSL, real_BSL, has_object_B, batch['caption_weight'])
        total, _ = objective(states, words, Packing(target_BSL.shape), policy_loss)
        return total, jnp.sum(real_BSL, dtype=jnp.float32)

    def update(state: TrainState, of_xe: tuple[Metrics, PyTree] | None, batch: DeviceBatch):
        gradient_fn = jax.value_and_grad(policy_objective, has_aux=True)
        (total, num_tokens), gradient = gradient_fn(state.params, batch)
        sums = {
            'policy': total,
            'tokens': num_tokens,
            'reward': jnp.sum(batch['reward']),
            'samples': jnp.sum(batch['is_sample']),
        }
        sums, gradient = mapped.over_devices((sums, gradient))
        num_tokens = jnp.maximum(sums['tokens'], 1)
        gradient = jax.tree.map(lambda x: x / num_tokens, gradient)
        policy = sums['policy'] / num_tokens
        metrics = {'loss': policy, 'policy': policy, 'tokens': sums['tokens']}
        if of_xe is not None:
            weight = config.scst.xe_weight
            terms, xe_gradient = of_xe
            gradient = jax.tree.map(lambda x, y: x + weight * y, gradient, xe_gradient)
            xe = metrics_of(terms, config.loss)
            metrics = xe | metrics | {'loss': policy + weight * xe['loss']}
        metrics['sample_cider'] = 100 * sums['reward'] / jnp.maximum(sums['samples'], 1)
        return apply_gradient(state, gradient, metrics, optimizer)

    return update
