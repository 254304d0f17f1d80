"""Small random clips and data folders that the tests share."""

import dataclasses

import numpy as np

from configs import common
from stg_jax.data.clip import Clip

FRAMES, OBJECTS, APPEARANCE, MOTION, OBJECT = 4, 3, 8, 6, 5
CELLS, CELL = 9, 3
WORDS = ['a', 'the', 'red', 'blue', 'ball', 'box', 'dog', 'man', 'pushes', 'chases', 'near', 'runs']


def fake_clips(num, *, seed=0, prefix='clip', captions=3, frames=FRAMES, objects=OBJECTS):
    """Return `num` clips; frames hold 0 to `objects` objects, the second clip holds none at all."""
    rng = np.random.default_rng(seed)
    return [
        fake_clip(
            rng,
            f'{prefix}{i}',
            max(1, captions + i % 3 - 1),
            frames,
            0 if i == 1 else objects,
            objects,
        )
        for i in range(num)
    ]


def fake_clip(rng, clip_id, num_captions, frames, most, objects):
    """Return a random clip with at most `most` objects a frame and a frame without any."""
    counts = rng.integers(0, most + 1, frames)
    counts[0], counts[-1] = most, 0
    mask = np.arange(objects) < counts[:, None]
    score = -np.sort(-rng.uniform(0.3, 1, mask.shape).astype(np.float32), axis=-1)
    corner = np.sort(rng.uniform(0, 1, (*mask.shape, 2, 2)).astype(np.float32), axis=-2)
    feature = rng.normal(size=(*mask.shape, OBJECT)).astype(np.float32)
    return Clip(
        id=clip_id,
        captions=tuple(
            ' '.join(rng.choice(WORDS, rng.integers(2, 9))) for _ in range(num_captions)
        ),
        appearance=rng.normal(size=(frames, APPEARANCE)).astype(np.float32),
        motion=rng.normal(size=(frames, MOTION)).astype(np.float32),
        object=feature * mask[..., None],
        box=corner.reshape(*mask.shape, 4) * mask[..., None],
        score=score * mask,
        label=np.where(mask, rng.integers(0, 80, mask.shape), -1).astype(np.int32),
        object_mask=mask,
        true_box=np.zeros((frames, 0, 4), np.float32),
        fps=25.0,
        height=120,
        width=160,
    )


def with_grid(clip, cells=CELLS):
    """Return a clip with a random grid of cells, the same for the same clip."""
    rng = np.random.default_rng(len(clip.captions) + int(1e6 * clip.appearance[0, 0] ** 2))
    shape = (len(clip.appearance), cells, CELL)
    return dataclasses.replace(clip, grid=rng.normal(size=shape).astype(np.float32))


def fake_data_folder(tmp_path, *, train=7, val=3, test=2, seed=0, name='data', **options):
    """Write a data folder of random clips below `tmp_path`; return its path.

    `options` go to `fake_clips`, except `shard_bytes`, which goes to the writer, and `grid`: True
    gives every clip one.
    """
    from stg_jax.data import records  # the tests of the model import this file without TensorFlow

    writing = {'shard_bytes': options.pop('shard_bytes')} if 'shard_bytes' in options else {}
    grid = with_grid if options.pop('grid', False) else lambda clip: clip
    splits = {
        split: list(map(grid, fake_clips(num, seed=seed + i, prefix=f'{split}_', **options)))
        for i, (split, num) in enumerate({'train': train, 'val': val, 'test': test}.items())
    }
    folder = tmp_path / name
    records.write_data_folder(
        folder, splits, data_set='fake', extractor={'name': 'random'}, **writing
    )
    return folder


def fake_data_config(folder, **overrides):
    """Return `config.data` for a folder of `fake_data_folder`."""
    config = common.get_config().data
    config.update(
        dir=str(folder),
        frames=FRAMES,
        objects=OBJECTS,
        appearance_dim=APPEARANCE,
        motion_dim=MOTION,
        object_dim=OBJECT,
        captions_per_clip=2,
        eval_captions=3,
        max_words=6,
        shuffle_buffer=4,
    )
    config.update(overrides)
    return config
