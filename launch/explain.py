"""Measure how faithful the explanations of a trained run are.

The command is in stg_jax/commands/explain.py; installed, it is `stg explain`.
"""

from stg_jax.commands import explain

if __name__ == '__main__':
    explain.run()
