"""Draw the curves of training runs: losses, distillation, validation scores, throughput.

The command is in stg_jax/commands/plot.py; installed, it is `stg plot`.
"""

from stg_jax.commands import plot

if __name__ == '__main__':
    plot.run()
