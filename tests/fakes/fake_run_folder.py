"""A run folder that describes a run which has not begun."""

from configs import common
from stg_jax.config import parse_config
from stg_jax.data.manifest import Manifest
from stg_jax.data.vocab import Vocabulary
from stg_jax.run.folder import RunFolder

MANIFEST = Manifest(
    data_set='fake',
    frames=10,
    objects=5,
    widths={'appearance': 8, 'motion': 6, 'object': 5},
    scale={'appearance': 1.5, 'motion': 1.0, 'object': 0.5},
    extractor={'name': 'random'},
    splits={'train': {'clips': 2, 'captions': 5}},
    missing={},
    sources={},
)
VOCAB = Vocabulary.build(['a red ball', 'ein grüner ring'], 1)


def create(path, vocab=VOCAB, **changes):
    config = common.get_config()
    config.update_from_flattened_dict(changes)
    run = RunFolder(path, parse_config(config), MANIFEST, vocab)
    run.claim()
    return run
