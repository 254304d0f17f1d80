"""The commands, one module each: flags, then one call. `main` is `stg`; launch/ calls them too."""
