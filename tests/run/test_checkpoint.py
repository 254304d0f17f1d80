import contextlib
import resource
import shutil

import numpy as np
import pytest

from stg_jax.errors import UserError
from stg_jax.run.checkpoint import Checkpoints, restore_params
from stg_jax.run.validation_score import ValidationScore


def tree(value):
    return {'w': np.full((3, 2), value, np.float32), 'b': np.full(2, value, np.float32)}


@pytest.fixture
def folder(tmp_path):
    """Steps 1 to 4 with scores; the best is step 2."""
    with Checkpoints(tmp_path / 'checkpoints') as checkpoints:
        for step, score in ((1, 0.1), (2, 0.9), (3, 0.4), (4, None)):
            score = ValidationScore(score, 2.0) if score else None
            checkpoints.save(step, tree(step), tree(10 * step), {'step': step}, score)
    return tmp_path / 'checkpoints'


def steps(folder):
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())


def test_the_latest_and_the_best_step_are_kept(folder):
    assert steps(folder) == [2, 4]


def test_restore_latest_returns_what_was_saved(folder):
    with Checkpoints(folder) as checkpoints:
        params, optimizer, progress = checkpoints.restore_latest(tree(0), tree(0))
    assert progress == {'step': 4}
    np.testing.assert_array_equal(params['w'], tree(4)['w'])
    np.testing.assert_array_equal(optimizer['b'], tree(40)['b'])


def test_an_empty_folder_restores_nothing(tmp_path):
    with Checkpoints(tmp_path / 'checkpoints') as checkpoints:
        assert checkpoints.restore_latest(tree(0), tree(0)) is None


def test_of_equal_scores_the_earliest_step_is_the_best(tmp_path):
    with Checkpoints(tmp_path / 'checkpoints') as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, tree(step), tree(0), {}, ValidationScore(0.5, 2.0))
    assert restore_params(tmp_path / 'checkpoints', tree(0), 'best')[1] == 1


def test_the_saved_arrays_are_those_of_the_moment_of_saving(tmp_path):
    params = tree(1)
    with Checkpoints(tmp_path / 'checkpoints') as checkpoints:
        checkpoints.save(1, params, tree(0), {}, None)
        params['w'][:] = 7  # as donation does while the write is under way
    restored, _ = restore_params(tmp_path / 'checkpoints', tree(0), 'latest')
    np.testing.assert_array_equal(restored['w'], tree(1)['w'])


@pytest.mark.parametrize('lost', ['params', 'optimizer', 'progress', 'params/manifest.ocdbt'])
def test_a_half_written_step_is_set_aside_and_the_one_before_used(folder, lost):
    path = folder / '4' / lost
    path.write_bytes(b'') if path.is_file() else shutil.rmtree(path)
    with Checkpoints(folder) as checkpoints:
        params, _, progress = checkpoints.restore_latest(tree(0), tree(0))
        assert progress == {'step': 2}
        np.testing.assert_array_equal(params['w'], tree(2)['w'])
        checkpoints.save(4, tree(44), tree(0), {'step': 4}, None)
    assert restore_params(folder, tree(0), 'latest')[0]['w'][0, 0] == 44
    assert (folder.parent / 'damaged_checkpoints' / '4').is_dir()


@pytest.mark.parametrize(('which', 'step'), [('best', 2), ('latest', 4), ('4', 4)])
def test_parameters_are_restored_by_name_or_step(folder, which, step):
    params, found = restore_params(folder, tree(0), which)
    assert found == step
    np.testing.assert_array_equal(params['b'], tree(step)['b'])


def test_a_damaged_best_step_gives_way_to_the_latest(folder):
    shutil.rmtree(folder / '2' / 'params')
    assert restore_params(folder, tree(0), 'best')[1] == 4


def test_an_unknown_step_is_refused_with_those_there(folder):
    with pytest.raises(UserError, match=r"no checkpoint '7': .* 4, 2"):
        restore_params(folder, tree(0), '7')


def test_a_run_without_checkpoints_is_refused(tmp_path):
    with pytest.raises(UserError, match='no checkpoint yet'):
        restore_params(tmp_path / 'checkpoints', tree(0), 'best')


@contextlib.contextmanager
def no_room_for_files_above(num_bytes):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_write_that_finds_no_room_says_so_and_leaves_the_step_before(tmp_path):
    noise = np.random.default_rng(0).standard_normal((500, 500)).astype(np.float32)
    large = {'w': noise}  # that no compression makes small
    with Checkpoints(tmp_path / 'checkpoints') as checkpoints:
        checkpoints.save(1, large, tree(1), {'step': 1}, None)
        checkpoints.wait()
        said = pytest.raises(UserError, match=r'a checkpoint could not be written to .*make room')
        with said, no_room_for_files_above(100_000):
            checkpoints.save(2, {'w': noise + 1}, tree(2), {'step': 2}, None)
            checkpoints.wait()
    with Checkpoints(tmp_path / 'checkpoints') as checkpoints:
        params, _, progress = checkpoints.restore_latest(large, tree(0))
    assert progress == {'step': 1}
    np.testing.assert_array_equal(params['w'], noise)
