"""Serve captions over HTTP.

The command is in stg_jax/commands/serve.py; installed, it is `stg serve`.
"""

from stg_jax.commands import serve

if __name__ == '__main__':
    serve.run()
