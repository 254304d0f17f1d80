"""Settings that make compiling cheap: the tests compile many small programs and run them once."""

import os
import shutil
import tempfile

_FAST_COMPILES = (
    '--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true '
    '--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1'
)
_CACHE = 'JAX_COMPILATION_CACHE_DIR'
_LONGEST = ('test_local_pod', 'test_loop', 'test_commands', 'test_prepare', 'test_suites')


def pytest_configure(config):
    # Before jax starts, in this process, in the workers of pytest-xdist, and in the commands that
    # tests run: all inherit the environment, and share what one of them has compiled.
    os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {_FAST_COMPILES}'.strip()
    os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
    if not hasattr(config, 'workerinput'):
        os.environ[_CACHE] = tempfile.mkdtemp(prefix='stg_jax_tests_')


def pytest_collection_modifyitems(items):
    # First, so that at the end no worker of pytest-xdist waits for the other's long file.
    items.sort(key=lambda item: item.path.stem not in _LONGEST)


def pytest_unconfigure(config):
    if not hasattr(config, 'workerinput'):
        shutil.rmtree(os.environ.pop(_CACHE), ignore_errors=True)
