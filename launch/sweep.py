"""Train and evaluate a grid of settings, each with several seeds.

The command is in stg_jax/commands/sweep.py; installed, it is `stg sweep`.
"""

from stg_jax.commands import sweep

if __name__ == '__main__':
    sweep.run()
