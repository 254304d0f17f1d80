"""What both frameworks read: the same batches, as PyTorch's tensors."""

import dataclasses
from typing import Any

import numpy as np
import torch

from benchmarks.torch_network import WHOLE, CaptioningNetwork, Packing, Sizes
from benchmarks.torch_weights import state_of
from stg_jax.benchmark.synthetic import VOCAB_SIZE
from stg_jax.data.vocab import PAD

_FEATURES = ('appearance', 'motion', 'object', 'box', 'object_mask')


@dataclasses.dataclass(frozen=True)
class Sample:
    """A batch as one version of the peer reads it."""

    features: dict[str, torch.Tensor]
    token_RL: torch.Tensor
    target: torch.Tensor  # (R, L), or (M,) when packed
    packing: Any
    num_tokens: int


def as_written(batch, device, dtype) -> Sample:
    """Return one sample a caption, padded."""
    token_BKL = batch['tokens']
    features = {key: np.repeat(batch[key], token_BKL.shape[1], axis=0) for key in _FEATURES}
    token_RL = _tensor(token_BKL.reshape(-1, token_BKL.shape[-1]), device)
    target_RL = token_RL[:, 1:].contiguous()
    num_tokens = int((target_RL != PAD).sum())
    features = _tensors(features, device, dtype)
    return Sample(features, token_RL[:, :-1], target_RL, WHOLE, num_tokens)


def with_tricks(batch, device, dtype) -> Sample:
    """Return one sample a clip, trimmed and packed."""
    token_RL = _tensor(batch['tokens'].reshape(-1, batch['tokens'].shape[-1]), device)
    longest = int((token_RL != PAD).sum(-1).max())
    token_RL, target_RL = token_RL[:, : longest - 1], token_RL[:, 1:longest]
    index_M = (target_RL != PAD).flatten().nonzero()[:, 0]
    features = features_of(batch, device, dtype)
    packing = Packing(index_M, tuple(token_RL.shape))
    return Sample(features, token_RL, target_RL.flatten()[index_M], packing, len(index_M))


def features_of(batch, device, dtype) -> dict[str, torch.Tensor]:
    """Return the features of a batch."""
    return _tensors({key: batch[key] for key in _FEATURES}, device, dtype)


def make_network(config, params, device, *, banded: bool) -> CaptioningNetwork:
    """Return the PyTorch network of a config with our parameters."""
    fields = {field.name for field in dataclasses.fields(Sizes)}
    values = {**config.model, **config.data, 'vocab_size': VOCAB_SIZE}
    sizes = Sizes(**{key: value for key, value in values.items() if key in fields})
    network = CaptioningNetwork(sizes, banded=banded).to(device)
    network.load_state_dict(state_of(params))
    return network


def _tensors(arrays, device, dtype):
    # Features are stored in 16 bits; both frameworks compute in the dtype of the run.
    tensors = {key: _tensor(value, device) for key, value in arrays.items()}
    return {
        key: tensor.to(getattr(torch, dtype)) if tensor.dtype == torch.float16 else tensor
        for key, tensor in tensors.items()
    }


def _tensor(array, device):
    tensor = torch.from_numpy(np.array(array)).to(device)
    return tensor.long() if tensor.dtype == torch.int32 else tensor
