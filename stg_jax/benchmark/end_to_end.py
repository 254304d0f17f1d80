"""The suite 'e2e': a whole training run, to the last checkpoint."""

import functools
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from stg_jax.benchmark.synthetic import CAPTIONS, open_random_clips, write_captions
from stg_jax.benchmark.timing import Stage, Summary
from stg_jax.config import Config
from stg_jax.errors import UserError
from stg_jax.train.loop import train


def run(config: Config, num_clips: int) -> list[Stage]:
    """Measure a training run on random clips, with a validation after each epoch.

    The clips are in memory or on the devices (`config.data.cache`); the suite 'input' measures the
    cost of reading shards. There is one validation clip per twelve train clips, as in MSVD.

    Returns:
      The stage 'whole run' with 'seconds', compilation and checkpoints included, and
      'captions_per_s'; and the stage 'steps' with 'captions_per_s' and 'data_wait' (fraction of the
      time) as logged by the run, with median, min and max.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = config.changed(
            data__dir=str(folder / 'data'), train__patience=0, train__track='none'
        )
        write_captions(config, {'train': num_clips, 'val': max(1, num_clips // 12)})
        start = time.perf_counter()
        # Compilation and checkpoints are part of a run, so they are part of its time.
        if not train(config, folder / 'run', functools.partial(open_random_clips, config)):
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
    return Summary.of(list(values)).as_json()
