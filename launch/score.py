"""Score the captions of any system against references.

The command is in stg_jax/commands/score.py; installed, it is `stg score`.
"""

from stg_jax.commands import score

if __name__ == '__main__':
    score.run()
