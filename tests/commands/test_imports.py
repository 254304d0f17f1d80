"""Imports run one way: read from the syntax trees, and seen in a fresh interpreter."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What each part of the project may import besides itself and `config`, `errors` and `files`.
MAY_IMPORT = {
    'data': set(),
    'datasets': {'data', 'extract'},  # the suffixes of videos
    'feature_files': {'data'},
    'ops': {'data'},
    'model': {'ops'},
    'parallel': {'ops'},
    'run': {'model', 'data'},
    'decode': {'run', 'model', 'ops', 'parallel', 'data'},
    'extract': {'data'},
    'cli': {'parallel', 'configs'},
    'evaluate': {'visualize', 'decode', 'run', 'parallel', 'datasets', 'data', 'cli'},
    'train': {'cli', 'evaluate', 'decode', 'run', 'parallel', 'model', 'ops', 'data'},
    'explain': {'ops', 'decode', 'run', 'model', 'datasets', 'data'},
    'visualize': {'explain', 'run'},
    'captioning': {'visualize', 'explain', 'extract', 'decode', 'datasets', 'data'},
    'serve': {
        *('captioning', 'visualize', 'explain', 'extract', 'feature_files', 'decode', 'run'),
        'data',
    },
    'prepare': {'extract', 'feature_files', 'datasets', 'data', 'cli'},
    'benchmark': {
        *('prepare', 'extract', 'train', 'decode', 'run', 'parallel', 'model', 'ops', 'datasets'),
        *('data', 'cli', 'configs'),
    },
    'share': {'prepare', 'evaluate', 'extract', 'decode', 'run', 'ops', 'data', 'cli'},
    'api': {'captioning', 'prepare', 'evaluate', 'train', 'decode', 'run', 'parallel'},
    'cluster': {'cli', 'evaluate', 'run', 'model'},
    'configs': set(),
    'commands': {
        *('configs', 'cli', 'cluster', 'benchmark', 'prepare', 'train', 'evaluate', 'captioning'),
        *('visualize', 'explain', 'extract', 'decode', 'run', 'parallel', 'datasets', 'data'),
        'serve',
        'share',
    },
    'launch': {'commands'},
    '__main__': {'commands'},
    'config': set(),
    'errors': set(),
    'files': set(),
}
DEVICE_WORDS = {
    'devices',
    'local_devices',
    'device_count',
    'local_device_count',
    'process_count',
    'process_index',
    'distributed',
    'Mesh',
    'NamedSharding',
    'PartitionSpec',
    'make_mesh',
    'shard_map',
    'pmap',
    'make_array_from_process_local_data',
}


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix('').parts
    parts = ('stg_jax', *parts) if parts[0] == 'configs' else parts  # as they are imported
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


PATHS = sorted(p for top in ('stg_jax', 'configs', 'launch') for p in (ROOT / top).rglob('*.py'))
TREES = {module_name(path): ast.parse(path.read_text()) for path in PATHS}
PEER = 'stg_jax.benchmark.torch_peer'  # plain PyTorch, which trains and sees devices by itself


def part_of(name):
    """Return the part of the project that a module belongs to, None for another's module."""
    top, *rest = name.split('.')
    if top == 'launch':
        return top
    return rest[0] if top == 'stg_jax' and rest else None


def imported_by(name):
    """Return every module that a module imports, anywhere in its text."""
    found = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{name} has a relative import'
            members = {f'{node.module}.{alias.name}' for alias in node.names}
            found |= {member if member in TREES else node.module for member in members}
    return found


def outside(name):
    """Return the top-level packages of others that a module imports."""
    return {other.split('.')[0] for other in imported_by(name) if part_of(other) is None} - {
        *sys.stdlib_module_names,
        'stg_jax',
    }


@pytest.mark.parametrize('name', [name for name in TREES if part_of(name)])
def test_imports_run_one_way(name):
    part = part_of(name)
    allowed = MAY_IMPORT[part] | {part, 'config', 'errors', 'files'}
    assert {part_of(other) for other in imported_by(name)} - {None} <= allowed


def test_no_modules_import_each_other_in_a_circle():
    graph = {name: {other for other in imported_by(name) if other in TREES} for name in TREES}
    graphlib.TopologicalSorter(graph).prepare()


def test_the_network_needs_jax_flax_and_numpy_alone():
    for name in TREES:
        if part_of(name) == 'model':
            assert outside(name) <= {'jax', 'flax', 'numpy'}, name
            own = {other for other in imported_by(name) if part_of(other) not in (None, 'model')}
            assert {part_of(other) for other in own} <= {'config', 'errors', 'ops'}, name


@pytest.mark.parametrize(
    ('package', 'part'),
    [('tensorflow', 'data'), ('tensorflow_datasets', 'data'), ('optax', 'train'), ('orbax', 'run')],
)
def test_a_heavy_package_is_imported_in_one_part_only(package, part):
    users = {name for name in TREES if package in outside(name) and not name.startswith(PEER)}
    assert {part_of(name) for name in users} == {part}


def test_tensorflow_is_imported_by_one_module():
    assert [name for name in TREES if 'tensorflow' in outside(name)] == ['stg_jax.data.tf']


def device_words(name):
    """Return the words of JAX for devices, processes and meshes that a module uses."""
    from_jax = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.ImportFrom) and node.module.split('.')[0] == 'jax':
            from_jax |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute) and ast.unparse(node).split('.')[0] == 'jax':
            from_jax |= set(ast.unparse(node).split('.'))
    return from_jax & DEVICE_WORDS


def test_only_one_part_knows_of_devices_and_processes():
    users = {name for name in TREES if device_words(name) and not name.startswith(PEER)}
    assert {part_of(name) for name in users} == {'parallel'}


@pytest.mark.parametrize(
    'module',
    ['stg_jax.decode.captioner', 'stg_jax.train.loop', 'stg_jax.configs.common'],
)
def test_training_and_decoding_work_without_tensorflow(module):
    code = f'import sys, {module}; sys.exit("tensorflow" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], cwd=ROOT).returncode == 0
