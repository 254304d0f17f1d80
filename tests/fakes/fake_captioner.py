"""A captioner with random parameters that was never trained nor written anywhere."""

import functools
from pathlib import Path

import numpy as np

from stg_jax.config import parse_config
from stg_jax.data.manifest import Manifest
from stg_jax.data.vocab import Vocabulary
from stg_jax.decode.captioner import Captioner, stack_clips
from stg_jax.run.build import build_model
from stg_jax.run.folder import RunFolder
from tests.fakes import fake_data, fake_run
from tests.fakes.fake_network import random_params

MAX_WORDS = 6


@functools.cache
def fake_captioner(**overrides):
    """Return a captioner for `fake_data.fake_clips`; overrides are those of `tiny_config`.

    One that reads a grid is for clips `with_grid`.
    """
    config = parse_config(fake_run.tiny_config('', **{'data__max_words': MAX_WORDS} | overrides))
    widths = {'appearance': fake_data.APPEARANCE, 'motion': fake_data.MOTION}
    manifest = Manifest(
        data_set='fake',
        frames=fake_data.FRAMES,
        objects=fake_data.OBJECTS,
        widths=widths | {'object': fake_data.OBJECT},
        scale={'appearance': 1.0, 'motion': 0.5, 'object': 2.0},
        extractor={'name': 'random'},
        splits={},
        missing={},
        sources={},
    )
    vocab = Vocabulary.build([' '.join(fake_data.WORDS)], min_count=1)
    model = build_model(config, manifest, vocab)
    clips = [fake_data.with_grid(clip) for clip in fake_data.fake_clips(1)]
    batch = stack_clips(clips, fake_data.OBJECTS)
    tokens = [[[1] * (config.data.max_words + 1)]]
    params = random_params(model, batch, np.array(tokens), train=False)
    return Captioner(RunFolder(Path('run'), config, manifest, vocab), params, 7, 'scene')
