"""The suite 'decode': captions of clips whose features are already on the devices."""

import jax
import numpy as np

from stg_jax.benchmark.flops import decoding_flops, matrix_ceiling
from stg_jax.benchmark.synthetic import like_trained, make_model, random_features
from stg_jax.benchmark.timing import Stage, rate, time_interleaved
from stg_jax.config import Config
from stg_jax.data.vocab import EOS
from stg_jax.decode.generate import mapped_search
from stg_jax.parallel import sharding
from stg_jax.run.build import init_params

# The speed of a machine drifts within minutes: the median of a few rounds is reported, with the
# least and the most.
_ROUNDS = 5


def run(config: Config) -> list[Stage]:
    """Measure greedy decoding and beam search with the config's beam and batch size.

    The network is untrained, but calibrated to end its captions after about eight words.

    Returns:
      For each search 'stage' (its name); 'captions_per_s' with median, min and max; 'mean_words'
      and 'most_words' of its captions; 'gflop' of a caption, 'gflop_per_s' and 'of_ceiling'. These
      count only the words of the captions, although a batch runs until its last one is complete.
    """
    mesh = sharding.data_mesh()
    num_clips = config.decode.batch_size * mesh.size  # as an evaluation decodes
    # Only the deployed branch: XLA would count the other's work, too.
    config = config.changed(model__branches='scene')
    model = make_model(config)
    features = random_features(config, num_clips, seed=0)
    # Random parameters rarely predict EOS, so every search would run to the longest caption.
    params = like_trained(init_params(model, config.data, config.seed), model, features)
    params, batch = sharding.replicate(params, mesh), sharding.shard_batch(features, mesh)
    calls = {}
    for num_beams in (1, config.decode.beam_size):
        search = mapped_search(
            model,
            mesh,
            branch=model.config.decoder(),
            beam_size=num_beams,
            length_penalty=config.decode.length_penalty,
        )
        calls[num_beams] = _call(search, params, batch)
    seconds = time_interleaved(calls, _ROUNDS)
    ceiling = matrix_ceiling(config.model.dtype)
    stages = [
        _stage(config, num_beams, np.asarray(call().token_BKL)[:, 0], seconds[num_beams], ceiling)
        for num_beams, call in calls.items()
    ]
    return [*stages, ceiling]


def _call(decode, params, batch):
    return lambda: jax.block_until_ready(decode(params, batch))


def _stage(config, num_beams, token_BL, seconds, ceiling) -> Stage:
    num_words_B = (token_BL == EOS).argmax(-1)
    flops = decoding_flops(
        make_model(config),
        config,
        num_clips=len(token_BL),
        num_beams=num_beams,
        num_tokens=float(num_words_B.mean()) + 1,
    )
    speed = rate(flops / 1e9, seconds)
    return {
        'stage': 'greedy' if num_beams == 1 else f'beam {num_beams}',
        'captions_per_s': rate(len(token_BL), seconds).as_json(),
        'mean_words': float(num_words_B.mean()),
        'most_words': int(num_words_B.max()),
        'gflop': flops / len(token_BL) / 1e9,
        'gflop_per_s': speed.as_json(),
        'of_ceiling': speed.median / ceiling['gflop_per_s'] / sharding.data_mesh().size,
    }
