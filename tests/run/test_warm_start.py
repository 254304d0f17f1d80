import jax
import numpy as np
import pytest
from etils import epath

from stg_jax.api import train
from stg_jax.config import parse_config
from stg_jax.errors import UserError
from stg_jax.run.build import param_shapes
from stg_jax.run.folder import RunFolder
from stg_jax.run.selection import choose_params
from stg_jax.run.warm_start import WarmStart
from stg_jax.run.weights import write_weights
from stg_jax.train.plan import make_plan
from tests.fakes import fake_data, fake_run
from tests.fakes.untrained_run import untrained_run


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """Return the folder of an untrained run on data of its own."""
    folder = tmp_path_factory.mktemp('source')
    data = fake_data.fake_data_folder(folder, seed=1)
    return untrained_run(folder / 'run', fake_run.tiny_config(data))


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return fake_data.fake_data_folder(
        tmp_path_factory.mktemp('target'), train=2, seed=9, captions=2
    )


def params_of(workdir):
    run = RunFolder.open(workdir)
    shapes = param_shapes(make_plan(run.config).model, run.config.data)
    return run, choose_params(run.checkpoints, shapes).params


def drawn(plan, config, seed=5):
    """Return random parameters in NumPy, which costs no compilation."""
    rng = np.random.default_rng(seed)
    shapes = param_shapes(plan.model, config.data)
    return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(x.dtype), shapes)


def start(source, config):
    config = parse_config(config)
    plan = make_plan(config)
    fresh = drawn(plan, config)
    return plan.vocab, fresh, WarmStart.open(str(source), fresh).params(fresh, plan.vocab)


def test_words_keep_their_vectors_whatever_their_ids(source, data):
    run, theirs = params_of(source)
    vocab, _, ours = start(source, fake_run.tiny_config(data))
    assert vocab.words != run.vocab.words  # else the test shows nothing
    old, new = (tree['decoders_scene']['embed']['embedding'] for tree in (theirs, ours))
    for row, word in enumerate(vocab.words):
        np.testing.assert_array_equal(new[row], old[run.vocab.words.index(word)])


def test_unknown_words_keep_their_initial_vectors(tmp_path, source, data):
    run, theirs = params_of(source)
    # A model that knows the four special tokens and two words.
    few = run.vocab.__class__(run.vocab.words[:6])
    small = RunFolder(epath.Path(tmp_path / 'few'), run.config, run.manifest, few)
    trees = jax.tree.map(np.asarray, theirs)
    for name in ('decoders_scene', 'decoders_object'):
        trees[name]['embed']['embedding'] = trees[name]['embed']['embedding'][:6]
    small.claim()
    write_weights(small.path / 'model.safetensors', trees, step=3, why='for a test')
    vocab, fresh, ours = start(small.path, fake_run.tiny_config(data))
    new, initial, old = (
        tree['decoders_object']['embed']['embedding'] for tree in (ours, fresh, trees)
    )
    known = {word: row for row, word in enumerate(few.words)}
    assert 0 < sum(word not in known for word in vocab.words) < len(vocab)
    for row, word in enumerate(vocab.words):
        expected = old[known[word]] if word in known else initial[row]
        np.testing.assert_array_equal(new[row], expected)


def test_all_other_arrays_are_those_of_the_source(source, data):
    _, theirs = params_of(source)
    _, _, ours = start(source, fake_run.tiny_config(data))
    del ours['decoders_scene']['embed'], ours['decoders_object']['embed']
    del theirs['decoders_scene']['embed'], theirs['decoders_object']['embed']
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_a_branch_that_the_new_network_lacks_is_left_out(source, data):
    _, fresh, ours = start(source, fake_run.tiny_config(data, model__branches='scene'))
    assert jax.tree.structure(ours) == jax.tree.structure(fresh)


def test_a_network_of_another_width_is_refused_before_the_folder_is_claimed(tmp_path, source, data):
    config = fake_run.tiny_config(data, model__width=8, train__init_from=str(source))
    with pytest.raises(UserError, match=r'cannot start this training \(of another shape'):
        train(config, tmp_path / 'run')
    assert not (tmp_path / 'run' / 'config.json').exists()


@pytest.mark.slow
def test_training_starts_from_the_source_and_resumes_without_it(tmp_path, source, data, capsys):
    # With a learning rate of 0, the result is the start.
    changes = {'optim__lr': 0.0, 'model__branches': 'scene'}
    config = fake_run.tiny_config(data, train__init_from=str(source), **changes)
    config.train.epochs = 1
    assert train(config, tmp_path / 'run')
    assert f'starts from {source}' in capsys.readouterr().err
    _, _, expected = start(source, config)
    _, found = params_of(tmp_path / 'run')
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    moved = source.rename(source.with_name('moved'))
    try:
        assert train(config, tmp_path / 'run')
    finally:
        moved.rename(source)
