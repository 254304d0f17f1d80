"""Rehearse a run on many hosts: several processes on this machine, each with CPU devices.

The command is in stg_jax/commands/rehearse.py; installed, it is `stg rehearse`.
"""

from stg_jax.commands import rehearse

if __name__ == '__main__':
    rehearse.run()
