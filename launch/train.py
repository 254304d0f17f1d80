"""Train a captioner.

The command is in stg_jax/commands/train.py; installed, it is `stg train`.
"""

from stg_jax.commands import train

if __name__ == '__main__':
    train.run()
