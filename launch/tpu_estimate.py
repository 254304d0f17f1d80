"""Estimate training and decoding on a TPU slice: compile with the TPU compiler, without a TPU.

The command is in stg_jax/commands/tpu_estimate.py; installed, it is `stg tpu-estimate`.
"""

from stg_jax.commands import tpu_estimate

if __name__ == '__main__':
    tpu_estimate.run()
