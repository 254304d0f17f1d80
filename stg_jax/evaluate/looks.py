"""How often the test split of a run was looked at: every look makes its scores less of a test."""

import datetime
import uuid
from collections.abc import Mapping
from typing import Any

from stg_jax import files
from stg_jax.run.folder import RunFolder

HELD_OUT = 'test'


def count_look(run: RunFolder, split: str, about: Mapping[str, Any]) -> int | None:
    """Write down a look at the test split; return how many there were, this one included.

    Each look is a file of its own in RUN/eval/test_looks/, so that evaluations at the same time
    are all counted. Other splits are not counted: None.
    """
    if split != HELD_OUT:
        return None
    folder = run.evaluation(f'{HELD_OUT}_looks')
    now = datetime.datetime.now(datetime.UTC)
    name = f'{now:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}.json'
    files.write_json(folder / name, {'time': now.isoformat(timespec='seconds'), **about})
    return sum(path.suffix == '.json' for path in folder.iterdir())
