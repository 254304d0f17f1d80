"""Command lines: flags, errors as one sentence, signals, progress."""
