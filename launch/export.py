"""Export a trained run as a folder to hand on: safetensors, config, vocabulary and a model card.

The command is in stg_jax/commands/export.py; installed, it is `stg export`.
"""

from stg_jax.commands import export

if __name__ == '__main__':
    export.run()
