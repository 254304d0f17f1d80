"""Read every record of a data folder, report what is wrong or unusual, and print a data card.

The command is in stg_jax/commands/verify.py; installed, it is `stg verify`.
"""

from stg_jax.commands import verify

if __name__ == '__main__':
    verify.run()
