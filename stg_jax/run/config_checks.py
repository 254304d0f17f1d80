"""What the numbers of a config can be."""

import operator
from typing import Any

from stg_jax.errors import UserError

# Intervals as mathematicians write them: [ includes the end, ( does not.
_SOME, _ANY, _POSITIVE = '[1, inf)', '[0, inf)', '(0, inf)'
LIMITS = {
    'seed': '[0, 4294967295]',  # of a larger one JAX would drop bits: 2 ** 32 would be 0
    'data.frames': _SOME,
    'data.objects': _SOME,
    'data.appearance_dim': _SOME,
    'data.motion_dim': _SOME,
    'data.object_dim': _SOME,
    'data.grid_cells': _ANY,
    'data.grid_dim': _ANY,
    'data.captions_per_clip': _SOME,
    'data.eval_captions': _SOME,
    'data.max_words': _SOME,
    'data.min_count': _ANY,
    'data.shuffle_buffer': _SOME,
    'model.width': _SOME,
    'model.heads': _SOME,
    'model.feedforward': _SOME,
    'model.encoder_layers': _ANY,
    'model.decoder_layers': _SOME,
    'model.grid_frames': _SOME,
    'model.grid_mixings': _ANY,
    'model.dropout': '[0, 1)',
    'model.graph_layers': _ANY,
    'loss.scene_weight': _ANY,
    'loss.kd_weight': _ANY,
    'loss.label_smoothing': '[0, 1)',
    'kd.temperature': _POSITIVE,
    'optim.lr': _ANY,
    'optim.weight_decay': _ANY,
    'optim.warmup': '[0, 1]',
    'optim.clip': _POSITIVE,
    'train.batch_size': _SOME,
    'train.accumulate': _SOME,
    'train.steps_per_execution': _SOME,
    'train.epochs': _SOME,
    'train.patience': _ANY,
    'train.keep_best': _SOME,
    'train.checkpoint_steps': _ANY,
    'train.log_steps': _ANY,
    'profile.start': _ANY,
    'profile.steps': _SOME,
    'decode.beam_size': _SOME,
    'decode.length_penalty': '(-inf, inf)',
    'decode.batch_size': _SOME,
}


def check_limits(config: Any) -> None:
    """Check every number of a config by itself; what must fit together is checked where it meets.

    Raises:
      UserError: one is out of its interval, or not a number.
    """
    for key, interval in LIMITS.items():
        value = operator.attrgetter(key)(config)
        if not _lies_in(value, interval):
            raise UserError(f'config.{key} is {value}; it must lie in {interval}')


def _lies_in(value: float, interval: str) -> bool:
    """Return whether a value lies in an interval; NaN lies in none."""
    least, most = map(float, interval[1:-1].split(','))
    above = operator.ge if interval[0] == '[' else operator.gt
    below = operator.le if interval[-1] == ']' else operator.lt
    return above(value, least) and below(value, most)
