"""The commands, one module each. `main.py` is `stg`; the scripts of launch/ call the others."""
