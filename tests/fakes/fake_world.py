"""A small toy world on disk, and its captions as a file of one's own, for tests of preparation."""

import csv
import functools
import shutil
import tempfile
from pathlib import Path

from stg_jax.datasets import toy


@functools.cache
def _rendered(num):
    folder = Path(tempfile.mkdtemp(prefix='fake_world_'))
    return folder, list(toy.render(folder, seed=0, num_clips={'train': num, 'val': 2}))


def write_world(folder, num=6):
    """Write `num` train and 2 val videos and captions.csv; return (captions, videos folder)."""
    rendered, films = _rendered(num)
    shutil.copytree(rendered, folder / 'videos')
    with (folder / 'captions.csv').open('w', newline='') as file:
        rows = csv.writer(file)
        rows.writerow(['clip', 'caption', 'split'])
        rows.writerows([film.id, text, film.split] for film in films for text in film.captions)
    return folder / 'captions.csv', folder / 'videos'
