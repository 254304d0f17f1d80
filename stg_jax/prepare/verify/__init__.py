"""Check a data folder and describe it."""
