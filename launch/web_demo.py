"""Serve a web page on which people caption their own videos.

The command is in stg_jax/commands/web_demo.py; installed, it is `stg web-demo`.
"""

from stg_jax.commands import web_demo

if __name__ == '__main__':
    web_demo.run()
