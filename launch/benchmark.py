"""Measure the speed of a part of the project on this machine.

The command is in stg_jax/commands/benchmark.py; installed, it is `stg benchmark`.
"""

from stg_jax.commands import benchmark

if __name__ == '__main__':
    benchmark.run()
