"""What the two branches looked at, word by word, and how far that can be believed.

explanation = explain(captioner, clip, token_L)

`token_L` are the ids of one caption; a row of `Hypotheses.token_BKL` will do.
"""

from stg_jax.explain.explain import Explanation, Links, explain

__all__ = ['Explanation', 'Links', 'explain']
