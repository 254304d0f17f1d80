"""Training: check parity, then time our step and both versions of the peer."""

import argparse

import jax
import numpy as np
import optax
import torch

from stg_jax.benchmark.synthetic import make_model, random_batch
from stg_jax.benchmark.timing import rate, speedup, time_interleaved
from stg_jax.benchmark.torch_peer import inputs, loss
from stg_jax.benchmark.torch_peer.inputs import state_of
from stg_jax.benchmark.train import Training
from stg_jax.parallel import mapped, sharding
from stg_jax.run.build import init_params
from stg_jax.train.feed import add_packing
from stg_jax.train.step import init_state, make_train_step

_BATCHES = 2
_TOLERANCE, _DRAWS, _CLIPS = 1e-4, 5, 4  # of the parity check
VERSIONS = {
    'as written': (inputs.as_written, loss.full_loss, False),
    'with tricks': (inputs.with_tricks, loss.chunked_loss, True),
}


class Peer:
    """Trains one version of the PyTorch network on the same batches repeatedly."""

    def __init__(self, version, config, params, batches, args):
        prepare, self._loss_fn, banded = VERSIONS[version]
        self._device, self._config = args.device, config
        self._autocast = args.dtype == 'bfloat16'
        self.samples = [prepare(batch, args.device, args.dtype) for batch in batches]
        self.network = inputs.make_network(config, params, args.device, banded=banded)
        self._optimizer = torch.optim.Adam(
            # The fused kernel, as a careful user would choose.
            self.network.parameters(),
            lr=config.optim.lr,
            fused=True,
        )
        self._loss = torch.compile(self.loss) if args.compile else self.loss

    def __call__(self):
        """Take one step on each batch, and wait for the last."""
        for sample in self.samples:
            self._optimizer.zero_grad(set_to_none=True)
            with torch.autocast(self._device, torch.bfloat16, enabled=self._autocast):
                loss = self._loss(sample)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self._config.optim.clip)
            self._optimizer.step()
        # CUDA returns before the work is done.
        if self._device == 'cuda':
            torch.cuda.synchronize()

    def loss(self, sample):
        """Compute the mean loss per real token."""
        states = self.network(sample.features, sample.token_RL, sample.packing)
        weights = self._config.loss.scene_weight, self._config.loss.kd_weight
        total = self._loss_fn(self.network, states, sample.target, weights)
        return total / sample.num_tokens


def run(config, args):
    """Measure our step and each version of the peer."""
    num_clips = config.train.batch_size // config.data.captions_per_clip
    batches = [random_batch(config, num_clips, seed) for seed in range(_BATCHES)]
    parity = check_parity(config, args)
    params = jax.device_get(init_params(make_model(config), config.data, config.seed))
    at_once = config.train.steps_per_execution
    ours = Training(config, params, batches, packed=True, at_once=at_once)
    calls = {'train: ours': ours}
    for version in VERSIONS:
        calls[f'train: peer {version}'] = Peer(version, config, params, batches, args)
    seconds = time_interleaved(calls, args.rounds)
    return [
        {'stage': 'parity of training', 'parity': parity},
        *(
            {
                'stage': name,
                'captions_per_s': rate(ours.num_captions, seconds[name]).as_json(),
                'ours_to_it': speedup(seconds['train: ours'], seconds[name]).as_json(),
            }
            for name in calls
        ),
    ]


def check_parity(config, args):
    """Compare our logits, loss and gradients with those of each version; stop if they differ.

    If the input of a ReLU rounds to different sides of zero, only one framework passes a gradient
    through that unit. This happens in about every third draw of inputs of this size, so a few draws
    are tried, and the gradients must agree in one of them.
    """
    config = config.changed(model__dropout=0.0, model__dtype='float32')
    args = argparse.Namespace(device=args.device, dtype='float32', compile=False)
    # TF32 would differ from float32 by more than the tolerance.
    torch.set_float32_matmul_precision('highest')
    with jax.default_matmul_precision('highest'):
        for seed in range(_DRAWS):
            found = _compare(config, random_batch(config, _CLIPS, seed), args)
            if all(each['gradient'] <= _TOLERANCE for each in found.values()):
                break
    torch.set_float32_matmul_precision('high')
    for version, differences in found.items():
        if max(differences.values()) > _TOLERANCE:
            raise SystemExit(f'the peer {version} is another network than ours: {differences}')
    return found


def _compare(config, batch, args):
    model = make_model(config)
    params = jax.device_get(
        init_params(model, config.data, config.seed)
    )  # our step donates its own
    ours = *_our_gradient(config, model, params, batch), _our_logits(model, params, batch)
    return {
        version: _differences(Peer(version, config, params, [batch], args), *ours)
        for version in VERSIONS
    }


def _our_gradient(config, model, params, batch):
    """Run our train step with an optimiser that only stores the gradient."""
    keep = optax.GradientTransformation(
        init=_zeros,
        update=lambda gradient, state, params: (_zeros(params), gradient),
    )
    mesh, loss_spec = sharding.data_mesh(), config.loss
    train_step = make_train_step(model, loss_spec, keep, seed=0, accumulate=1)
    state = sharding.replicate(init_state(params, keep), mesh)
    packed = sharding.shard_batch(add_packing(batch, num_parts=mesh.size), mesh)
    state, metrics = mapped.pmapped(train_step, mesh)(state, packed)
    return float(metrics['loss']), state.opt_state


def _our_logits(model, params, batch):
    outputs = jax.jit(model.apply, static_argnums=3)(
        {'params': params}, batch, batch['tokens'][..., :-1], False
    )
    return {name: np.asarray(output.logits_BKLV) for name, output in outputs.items()}


def _differences(peer, loss, gradient, logits):
    """Largest absolute differences of logits and loss, and largest relative one of gradients."""
    (sample,) = peer.samples
    peer_loss = peer.loss(sample)
    peer_loss.backward()
    found = {'loss': abs(peer_loss.item() - loss)}
    with torch.no_grad():
        states = peer.network(sample.features, sample.token_RL, sample.packing)
        for name, state in states.items():
            logits_RLV = logits[name].reshape(-1, *logits[name].shape[2:])
            length = sample.token_RL.shape[1]
            ours = torch.from_numpy(logits_RLV[:, :length].copy()).to(state.device)
            theirs = peer.network.decoders[name].logits(state)
            found[f'logits {name}'] = float((theirs - sample.packing.pack(ours)).abs().max())
    theirs = dict(peer.network.named_parameters())
    ratios = {}
    for name, ours in state_of(gradient).items():
        difference = (theirs[name].grad.cpu() - ours).abs().max()
        ratios[name] = float(difference / ours.abs().max())
    return found | {'gradient': max(ratios.values())}


def _zeros(tree):
    return jax.tree.map(jax.numpy.zeros_like, tree)
