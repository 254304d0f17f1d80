"""Jobs of preparation whose makers need no file."""

from stg_jax.prepare import workers
from stg_jax.prepare.plan import DataPlan
from stg_jax.prepare.workers import Request

NAMES = [f'c{rank}' for rank in range(3 * workers.CLIPS_PER_CHUNK + 1)]


def requests(names=NAMES, captions=('a man runs',)):
    return [Request(name, captions, path=f'/videos/{name}.mp4') for name in names]


def plan(maker, names=NAMES, *, resumable=True, **splits):
    return DataPlan(
        data_set='fake',
        splits={'train': requests(names), **splits},
        maker=maker,
        extractor={'name': 'random'},
        sources={},
        missing={},
        notes=[],
        resumable=resumable,
    )
