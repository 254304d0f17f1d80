"""Settings that make compiling cheap: the tests compile many small programs and run them once."""

import os
import shutil
import tempfile

import pytest

from tests.fakes.real_data import VARIABLE
from tests.fakes.xla_flags import known_xla_flags

_FAST_COMPILES = (
    '--xla_backend_optimization_level=0',
    '--xla_llvm_disable_expensive_passes=true',
    '--xla_cpu_use_fusion_emitters=false',
    '--xla_cpu_parallel_codegen_split_count=1',
)
_CACHE = 'JAX_COMPILATION_CACHE_DIR'
_OWN_CACHE = pytest.StashKey[bool]()
_LONGEST = (
    *('test_local_pod', 'test_loop', 'test_colab', 'test_suites', 'test_step', 'test_devices'),
    *('test_small_validation', 'test_network', 'test_prepare', 'test_commands', 'test_fuzz'),
)


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


def pytest_collection_modifyitems(items):
    # First, so that at the end no worker of pytest-xdist waits for the other's long file.
    rank = {stem: index for index, stem in enumerate(_LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


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
