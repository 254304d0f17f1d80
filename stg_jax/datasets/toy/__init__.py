"""A rendered world of coloured shapes that interact: the data set that needs no download."""

from stg_jax.datasets.toy.render import ToyClip, render

__all__ = ['ToyClip', 'render']
