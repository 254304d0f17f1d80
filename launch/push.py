"""Upload a run to the Hugging Face Hub, where stg_jax.load('hf://USER/NAME') finds it.

The command is in stg_jax/commands/push.py; installed, it is `stg push`.
"""

from stg_jax.commands import push

if __name__ == '__main__':
    push.run()
