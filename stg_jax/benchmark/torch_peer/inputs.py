"""Convert batches and parameters to PyTorch, so that both frameworks use the same."""

import dataclasses
from typing import Any

import numpy as np
import torch

from stg_jax.benchmark.synthetic import VOCAB_SIZE
from stg_jax.benchmark.torch_peer.network import WHOLE, CaptioningNetwork, Packing, Sizes
from stg_jax.data.vocab import PAD


def state_of(params):
    """Convert a parameter tree of Flax to a `state_dict` of `CaptioningNetwork`."""
    state = {}
    for module in ('scene_encoder', 'object_encoder'):
        for name, leaves in params[module].items():
            name = name.replace('graph_', 'graph.')
            state[f'{module}.{name}.weight'] = np.asarray(leaves['kernel']).T
    for branch in ('scene', 'object'):
        tree = params[f'decoders_{branch}']
        prefix = f'decoders.{branch}'
        state[f'{prefix}.embed.weight'] = np.asarray(tree['embed']['embedding'])
        for name, layer in tree.items():
            if name.startswith('encoder_'):
                state |= _encoder_layer(f'{prefix}.{name.replace("_", ".")}', layer)
            elif name.startswith('decoder_'):
                state |= _decoder_layer(f'{prefix}.{name.replace("_", ".")}', layer)
    return {name: torch.from_numpy(np.array(value)) for name, value in state.items()}


def _encoder_layer(prefix, layer):
    return {
        **_attention(f'{prefix}.attention', layer['Attention_0']),
        **_feed(f'{prefix}.feed', layer['FeedForward_0']),
        **_norms(prefix, [layer['LayerNorm_0'], layer['LayerNorm_1']]),
    }


def _decoder_layer(prefix, layer):
    return {
        **_attention(f'{prefix}.self_attention', layer['self_attention']),
        **_attention(f'{prefix}.cross_attention', layer['cross_attention']),
        **_feed(f'{prefix}.feed', layer['feed']),
        **_norms(prefix, [layer[f'norms_{i}'] for i in range(3)]),
    }


def _attention(prefix, leaves):
    width = leaves['query']['kernel'].shape[0]
    weight = {k: np.asarray(leaves[k]['kernel']).reshape(width, width).T for k in leaves}
    bias = {k: np.asarray(leaves[k]['bias']).reshape(width) for k in leaves}
    return {
        f'{prefix}.query.weight': weight['query'],
        f'{prefix}.query.bias': bias['query'],
        f'{prefix}.key_value.weight': np.concatenate([weight['key'], weight['value']]),
        f'{prefix}.key_value.bias': np.concatenate([bias['key'], bias['value']]),
        f'{prefix}.out.weight': weight['out'],
        f'{prefix}.out.bias': bias['out'],
    }


def _feed(prefix, leaves):
    state = {}
    for place, name in ((0, 'Dense_0'), (3, 'Dense_1')):
        state[f'{prefix}.{place}.weight'] = np.asarray(leaves[name]['kernel']).T
        state[f'{prefix}.{place}.bias'] = np.asarray(leaves[name]['bias'])
    return state


def _norms(prefix, norms):
    state = {}
    for place, leaves in enumerate(norms):
        state[f'{prefix}.norms.{place}.weight'] = np.asarray(leaves['scale'])
        state[f'{prefix}.norms.{place}.bias'] = np.asarray(leaves['bias'])
    return state


_FEATURES = ('appearance', 'motion', 'object', 'box', 'object_mask')


@dataclasses.dataclass(frozen=True)
class Sample:
    """A batch in the form that one version of the peer reads."""

    features: dict[str, torch.Tensor]
    token_RL: torch.Tensor
    target: torch.Tensor  # (R, L), or (M,) when packed
    packing: Any
    num_tokens: int


def as_written(batch, device, dtype) -> Sample:
    """Make one padded sample per caption, as public captioners do."""
    token_BKL = batch['tokens']
    # A data loader that yields captions reads, and encodes, the clip of each again.
    features = {key: np.repeat(batch[key], token_BKL.shape[1], axis=0) for key in _FEATURES}
    token_RL = _tensor(token_BKL.reshape(-1, token_BKL.shape[-1]), device)
    target_RL = token_RL[:, 1:].contiguous()
    num_tokens = int((target_RL != PAD).sum())
    features = _tensors(features, device, dtype)
    return Sample(features, token_RL[:, :-1], target_RL, WHOLE, num_tokens)


def with_tricks(batch, device, dtype) -> Sample:
    """Make one sample per clip, with captions trimmed and packed."""
    token_RL = _tensor(batch['tokens'].reshape(-1, batch['tokens'].shape[-1]), device)
    longest = int((token_RL != PAD).sum(-1).max())
    token_RL, target_RL = token_RL[:, : longest - 1], token_RL[:, 1:longest]
    # Packing is an index on the device; nested tensors of PyTorch lack the kernels.
    index_M = (target_RL != PAD).flatten().nonzero()[:, 0]
    features = features_of(batch, device, dtype)
    packing = Packing(index_M, tuple(token_RL.shape))
    return Sample(features, token_RL, target_RL.flatten()[index_M], packing, len(index_M))


def features_of(batch, device, dtype) -> dict[str, torch.Tensor]:
    """Convert the features of a batch."""
    return _tensors({key: batch[key] for key in _FEATURES}, device, dtype)


def make_network(config, params, device, *, banded: bool) -> CaptioningNetwork:
    """Build the PyTorch network of a config with our parameters."""
    fields = {field.name for field in dataclasses.fields(Sizes)}
    values = {**vars(config.model), **vars(config.data), 'vocab_size': VOCAB_SIZE}
    sizes = Sizes(**{key: value for key, value in values.items() if key in fields})
    network = CaptioningNetwork(sizes, banded=banded).to(device)
    network.load_state_dict(state_of(params))
    return network


def _tensors(arrays, device, dtype):
    # Features are stored in 16 bits; both frameworks compute in the data type of the run.
    tensors = {key: _tensor(value, device) for key, value in arrays.items()}
    return {
        key: tensor.to(getattr(torch, dtype)) if tensor.dtype == torch.float16 else tensor
        for key, tensor in tensors.items()
    }


def _tensor(array, device):
    tensor = torch.from_numpy(np.array(array)).to(device)
    return tensor.long() if tensor.dtype == torch.int32 else tensor
