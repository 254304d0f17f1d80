"""Compare evaluated systems: mean and spread over seeds, and a paired bootstrap over clips.

The command is in stg_jax/commands/compare.py; installed, it is `stg compare`.
"""

from stg_jax.commands import compare

if __name__ == '__main__':
    compare.run()
