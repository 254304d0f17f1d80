"""The suite 'e2e': a whole training run, to the last checkpoint."""

import dataclasses
import functools
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stg_jax.benchmark.synthetic import CAPTIONS, open_random_clips, write_captions
from stg_jax.benchmark.timing import Spread
from stg_jax.errors import UserError
from stg_jax.train.loop import train_on

Stage = dict[str, Any]


def run(config: Any, num_clips: int) -> list[Stage]:
    """Train on random clips as the config says, with a validation after each epoch.

    The clips are in memory, or on the devices (`config.data.cache`): what reading shards costs is
    measured by the suite 'input'. There is one validation clip to twelve train clips, as in MSVD.

    Returns:
      The stage 'whole run' with 'seconds', compilation and checkpoints included, and
      'captions_per_s'; and the stage 'steps' with 'captions_per_s' and 'data_wait' (share of the
      time), as the run has logged them, with median, min and max.
    """
    config = config.copy_and_resolve_references()
    config.train.patience = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config.data.dir = str(folder / 'data')
        write_captions(config, {'train': num_clips, 'val': max(1, num_clips // 12)})
        start = time.perf_counter()
        if not train_on(functools.partial(open_random_clips, config), config, folder / 'run'):
            raise UserError('the run was asked to stop before its end: nothing was measured')
        seconds = time.perf_counter() - start
        logged = [json.loads(line) for line in (folder / 'run' / 'metrics.jsonl').open()]
    steps = [values for values in logged if 'data_wait' in values]
    captions = config.train.epochs * num_clips * CAPTIONS
    return [
        {'stage': 'whole run', 'seconds': seconds, 'captions_per_s': captions / seconds},
        {
            'stage': 'steps',
            'captions_per_s': _spread(values['captions_per_second'] for values in steps),
            'data_wait': _spread(values['data_wait'] for values in steps),
        },
    ]


def _spread(values: Iterator[float]) -> dict[str, float]:
    return dataclasses.asdict(Spread.of(list(values)))
