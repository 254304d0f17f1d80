"""Flags of XLA, which change from version to version."""

import os
import re
import subprocess
import sys

# The smallest call that reads the flags: 0.1 s, where jax.devices() takes 0.9 s.
_READ_FLAGS = 'from jaxlib import xla_client; xla_client.make_cpu_client()'


def known_xla_flags(flags):
    """Return the flags that the installed jaxlib knows; an unknown one would abort the process."""
    environment = os.environ | {'XLA_FLAGS': ' '.join(flags)}
    command = [sys.executable, '-c', _READ_FLAGS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode == 0:
        return list(flags)
    complaint = re.search('Unknown flags? in XLA_FLAGS:(.*)', done.stderr)
    # Without the flags tests only compile more slowly.
    unknown = complaint[1].split() if complaint else flags
    return [flag for flag in flags if flag not in unknown]
