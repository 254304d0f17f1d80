"""Our parameters, or their gradients, under the names of the PyTorch network."""

import numpy as np
import torch


def state_of(params):
    """Return a `state_dict` of `CaptioningNetwork` from a tree of Flax."""
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
