"""Decode a split with a trained run and score it.

The command is in stg_jax/commands/evaluate.py; installed, it is `stg evaluate`.
"""

from stg_jax.commands import evaluate

if __name__ == '__main__':
    evaluate.run()
