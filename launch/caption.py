"""Caption raw videos with a trained run.

The command is in stg_jax/commands/caption.py; installed, it is `stg caption`.
"""

from stg_jax.commands import caption

if __name__ == '__main__':
    caption.run()
