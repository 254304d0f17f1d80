"""Prepare a data set: write captions and features of its clips as shards for training.

The command is in stg_jax/commands/prepare.py; installed, it is `stg prepare`.
"""

from stg_jax.commands import prepare

if __name__ == '__main__':
    prepare.run()
