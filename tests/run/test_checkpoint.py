import contextlib
import resource
import shutil

import numpy as np
import orbax.checkpoint as ocp
import pytest

from stg_jax.errors import UserError
from stg_jax.run.checkpoint import Checkpoints, restore_params, saved_scores
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


def flip_a_bit(path, place=None):
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if place is None else place] ^= 1
    path.write_bytes(data)


def rewrite_with_a_flipped_bit(step, name):
    """Save a tree anew with one bit of one number changed, as Orbax itself would load it."""
    path = (step / name).resolve()
    with ocp.StandardCheckpointer() as checkpointer:
        restored = checkpointer.restore(path, tree(0))
        restored['w'].view(np.uint32)[0, 0] ^= 1
        checkpointer.save(path, restored, force=True)


@pytest.mark.parametrize('name', ['params', 'optimizer'])
def test_one_flipped_bit_makes_a_step_count_as_damaged(folder, name):
    rewrite_with_a_flipped_bit(folder / '4', name)
    with Checkpoints(folder) as checkpoints:
        params, optimizer, progress = checkpoints.restore_latest(tree(0), tree(0))
    assert progress == {'step': 2}
    np.testing.assert_array_equal(params['w'], tree(2)['w'])
    np.testing.assert_array_equal(optimizer['w'], tree(20)['w'])
    assert (folder.parent / 'damaged_checkpoints' / '4').is_dir()


def test_a_flipped_bit_of_the_best_parameters_gives_way_to_the_latest_with_a_warning(
    folder, caplog
):
    rewrite_with_a_flipped_bit(folder / '2', 'params')
    with caplog.at_level('WARNING'):
        params, step = restore_params(folder, tree(0), 'best')
    assert step == 4
    np.testing.assert_array_equal(params['w'], tree(4)['w'])
    assert '2 is damaged: params are not what was saved' in caplog.text
    with pytest.raises(UserError, match='no checkpoint that can be read; 2: params are not'):
        restore_params(folder, tree(0), '2')


def test_a_changed_progress_makes_a_step_count_as_damaged(folder):
    (folder / '4' / 'progress' / 'metadata').write_text('{"step": 5}')
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.restore_latest(tree(0), tree(0))[2] == {'step': 2}


def test_parameters_need_no_sound_optimizer(folder):
    rewrite_with_a_flipped_bit(folder / '2', 'optimizer')
    assert restore_params(folder, tree(0), 'best')[1] == 2


def test_steps_of_older_versions_have_no_digest_and_are_used(folder):
    shutil.rmtree(folder / '4' / 'digest')
    assert restore_params(folder, tree(0), 'latest')[1] == 4
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.restore_latest(tree(0), tree(0))[2] == {'step': 4}


def test_every_bit_of_every_file_of_a_step_is_loaded_right_or_not_at_all(folder):
    expected = {2: tree(2), 4: tree(4)}
    rng = np.random.default_rng(0)
    for path in sorted(path for path in (folder / '4').rglob('*') if path.is_file()):
        data = path.read_bytes()
        for place in rng.integers(len(data), size=2):
            flip_a_bit(path, place)
            params, step = restore_params(folder, tree(0), 'latest')
            np.testing.assert_array_equal(params['w'], expected[step]['w'], err_msg=str(path))
            np.testing.assert_array_equal(params['b'], expected[step]['b'], err_msg=str(path))
            path.write_bytes(data)


@pytest.mark.parametrize(
    'content', [b'', b'\xff\x00{', b'[1]', b'{"score": "much", "step": 2}', b'{}']
)
def test_a_damaged_score_of_an_old_step_stops_nothing(folder, content):
    (folder / '2' / 'metrics' / 'metrics').write_bytes(content)
    assert saved_scores(folder) == {}
    assert restore_params(folder, tree(0), 'best')[1] == 4
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.restore_latest(tree(0), tree(0))[2] == {'step': 4}
        checkpoints.save(5, tree(5), tree(0), {'step': 5}, ValidationScore(0.3, 1.0))
    assert restore_params(folder, tree(0), 'best')[1] == 5


def grown(**changes):
    return {**tree(0), **changes}


@pytest.mark.parametrize(
    ('wanted', 'message'),
    [
        (grown(head={'kernel': np.zeros(2, np.float32)}), 'missing: head/kernel'),
        ({'w': tree(0)['w']}, 'extra: b'),
        (grown(w=np.zeros((3, 4), np.float32)), 'of another shape: w 3 x 2 instead of 3 x 4'),
        ({f'x{i}': np.zeros(1) for i in range(5)}, 'missing: x0, x1, x2 and 2 more; extra: b, w'),
    ],
)
def test_parameters_of_another_network_are_named_and_not_called_damaged(folder, wanted, message):
    with pytest.raises(UserError, match=rf'4 does not fit the network \({message}\): it was saved'):
        restore_params(folder, wanted, 'latest')
    with Checkpoints(folder) as checkpoints, pytest.raises(UserError, match=message):
        checkpoints.restore_latest(wanted, tree(0))
    assert steps(folder) == [2, 4]  # nothing is set aside


def test_another_optimizer_is_named(folder):
    with Checkpoints(folder) as checkpoints, pytest.raises(UserError, match='missing: mu'):
        checkpoints.restore_latest(tree(0), grown(mu=np.zeros(3)))


def test_a_deleted_run_folder_is_one_sentence(tmp_path):
    run = tmp_path / 'run'
    deleted = pytest.raises(UserError, match='run was deleted while the run was training')
    with deleted, Checkpoints(run / 'checkpoints') as checkpoints:
        checkpoints.save(1, tree(1), tree(1), {'step': 1}, None)
        checkpoints.wait()
        shutil.rmtree(run)
        checkpoints.save(2, tree(2), tree(2), {'step': 2}, None)
    assert not run.exists()
