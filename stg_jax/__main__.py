"""`python -m stg_jax COMMAND` is `stg COMMAND`."""

from stg_jax.commands.main import main

if __name__ == '__main__':
    main()
