"""Settings that make compiling cheap: the tests compile many small programs and run them once."""

import os
import re
import shutil
import subprocess
import sys
import tempfile

import pytest

from tests.fakes.real_data import VARIABLE

_FAST_COMPILES = (
    '--xla_backend_optimization_level=0',
    '--xla_llvm_disable_expensive_passes=true',
    '--xla_cpu_use_fusion_emitters=false',
    '--xla_cpu_parallel_codegen_split_count=1',
)
# The smallest call that reads the flags: 0.1 s, where jax.devices() takes 0.9 s.
_READ_FLAGS = 'from jaxlib import xla_client; xla_client.make_cpu_client()'
_CACHE = 'JAX_COMPILATION_CACHE_DIR'
_OWN_CACHE = pytest.StashKey[bool]()
_LONGEST = ('test_local_pod', 'test_loop', 'test_commands', 'test_prepare', 'test_suites')


def pytest_configure(config):
    # Before jax starts, in this process, in the workers of pytest-xdist, and in the commands that
    # tests run: all inherit the environment, and share what one of them has compiled.
    os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
    if not hasattr(config, 'workerinput'):
        flags = known_xla_flags(_FAST_COMPILES)
        os.environ['XLA_FLAGS'] = ' '.join([os.environ.get('XLA_FLAGS', ''), *flags]).strip()
        # A folder of the caller's stays: a second run then compiles next to nothing.
        config.stash[_OWN_CACHE] = _CACHE not in os.environ
        if config.stash[_OWN_CACHE]:
            os.environ[_CACHE] = tempfile.mkdtemp(prefix='stg_jax_tests_')


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


def pytest_collection_modifyitems(items):
    # First, so that at the end no worker of pytest-xdist waits for the other's long file.
    items.sort(key=lambda item: item.path.stem not in _LONGEST)


def pytest_unconfigure(config):
    if config.stash.get(_OWN_CACHE, False):
        shutil.rmtree(os.environ.pop(_CACHE), ignore_errors=True)


def pytest_terminal_summary(terminalreporter):
    skipped = [r for r in terminalreporter.stats.get('skipped', []) if VARIABLE in str(r.longrepr)]
    if skipped:
        terminalreporter.write_line(
            f'{len(skipped)} tests need real data and were skipped: set {VARIABLE} to a folder '
            'that has it (CONTRIBUTING.md says what it contains)',
            yellow=True,
        )
