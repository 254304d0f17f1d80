"""A rendered world of coloured shapes that interact: the data set that needs no download."""

from stg_jax.datasets.toy.render import ToyClip, check_splits, clip_id, render, render_clip

__all__ = ['ToyClip', 'check_splits', 'clip_id', 'render', 'render_clip']
