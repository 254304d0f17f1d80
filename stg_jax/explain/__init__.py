"""Which frames, objects and cells a word of a caption came from, and how far that can be trusted.

    explanation = explain_caption(captioner, clip, token_L)

`token_L` are the token ids of one caption, e.g. a row of `Hypotheses.token_BKL`.
"""

from stg_jax.explain.explain import Explanation, Links, explain_caption

__all__ = ['Explanation', 'Links', 'explain_caption']
