"""Decoding: our beam search and that of the peer, with and without a cache, on the same clips."""

import jax
import numpy as np
import torch

from stg_jax.benchmark.synthetic import like_trained, make_model, random_features
from stg_jax.benchmark.timing import rate, speedup, time_interleaved
from stg_jax.benchmark.torch_peer import inputs, search
from stg_jax.data.vocab import EOS
from stg_jax.decode.generate import mapped_search
from stg_jax.parallel import sharding
from stg_jax.run.build import init_params

OURS = 'decode: ours'


class Peer:
    """Decodes the same clips repeatedly."""

    def __init__(self, config, params, features, args, *, use_cache):
        self._network = inputs.make_network(config, params, args.device, banded=True)
        self._network.train(False)
        self._features = inputs.features_of(features, args.device, config.model.dtype)
        self._device = args.device
        self._autocast = config.model.dtype == 'bfloat16'
        self._search = {
            'beam_size': config.decode.beam_size,
            'max_words': config.data.max_words,
            'length_penalty': config.decode.length_penalty,
            'use_cache': use_cache,
        }

    def __call__(self):
        """Decode; returns the captions (B, L) and the number of steps."""
        with torch.autocast(self._device, torch.bfloat16, enabled=self._autocast):
            token_BL, num_steps = search.decode(self._network, self._features, **self._search)
        return token_BL.cpu().numpy(), num_steps


def run(config, args):
    """Measure our search and each search of the peer, after checking that the captions agree."""
    model = make_model(config)
    features = random_features(config, args.clips, seed=0)
    params = like_trained(init_params(model, config.data, config.seed), model, features)
    branch, search = model.config.decoder(), config.decode
    decode = mapped_search(
        model,
        sharding.data_mesh(),
        branch=branch,
        beam_size=search.beam_size,
        length_penalty=search.length_penalty,
    )
    on_device = jax.device_put(features)
    calls = {OURS: lambda: np.asarray(decode(params, on_device).token_BKL)[:, 0]}
    for name, use_cache in {'without cache': False, 'with cache': True}.items():
        calls[f'decode: peer {name}'] = Peer(config, params, features, args, use_cache=use_cache)
    # A faster search that finds other captions would prove nothing.
    captions = _checked(calls, config.model.dtype)
    seconds = time_interleaved(calls, args.rounds)
    return [
        {'stage': 'captions decoded'} | captions,
        *(
            {
                'stage': name,
                'captions_per_s': rate(args.clips, seconds[name]).as_json(),
                'ours_to_it': speedup(seconds[OURS], seconds[name]).as_json(),
            }
            for name in calls
        ),
    ]


def _checked(calls, dtype):
    """Describe the captions; stop if a peer finds different ones in float32."""
    ours_BL = calls[OURS]()
    same = {}
    for name, call in calls.items():
        if name != OURS:
            token_BL, num_steps = call()
            same[name] = float((token_BL == ours_BL).all(-1).mean())
            # In bfloat16 rounding may exchange two captions of nearly equal score.
            if dtype == 'float32' and same[name] < 1:
                raise SystemExit(f'{name}: only {same[name]:.0%} of the captions are ours')
    num_words_B = (ours_BL == EOS).argmax(-1)
    return {
        'mean_words': float(num_words_B.mean()),
        'most_words': int(num_words_B.max()),
        'steps_of_peer': num_steps,
        'same_captions': same,
    }
