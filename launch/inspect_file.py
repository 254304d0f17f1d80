"""Report what a file or folder holds, and how to pass it to prepare.py.

The command is in stg_jax/commands/inspect.py; installed, it is `stg inspect`.
"""

from stg_jax.commands import inspect

if __name__ == '__main__':
    inspect.run()
