import json

import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import flatten_dict

from stg_jax.errors import UserError
from stg_jax.run.selection import choose_params
from stg_jax.run.weights import NAME, read_weights
from tests.fakes.fake_export import fake_model, shapes_of


@pytest.fixture
def run(tmp_path):
    return fake_model(tmp_path / 'model')


def rewrite(run, change, metadata=None):
    """Change the arrays of an exported model as any program can that writes safetensors."""
    arrays = safetensors.numpy.load_file(run.path / NAME)
    change(arrays)
    safetensors.numpy.save_file(arrays, run.path / NAME, metadata)


def test_any_reader_of_safetensors_sees_the_arrays_by_their_path(run):
    arrays = safetensors.numpy.load_file(run.path / NAME)
    choice = choose_params(run.checkpoints, shapes_of(run))
    expected = flatten_dict(choice.params, sep='/')
    assert arrays.keys() == expected.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, expected[name])
    assert arrays['decoders_scene/embed/embedding'].shape == (len(run.vocab), 8)


def test_step_and_choice_are_kept(run):
    choice = choose_params(run.checkpoints, shapes_of(run))
    assert (choice.steps, choice.why) == ([7], 'step 7, drawn at random')


@pytest.mark.parametrize('options', [{'which': 'latest'}, {'average': 3}])
def test_an_exported_model_has_no_checkpoints_to_choose_from(run, options):
    with pytest.raises(UserError, match='one set of parameters'):
        choose_params(run.checkpoints, shapes_of(run), **options)


def test_a_flipped_bit_is_noticed(run):
    path = run.path / NAME
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match='bits have changed'):
        read_weights(path, shapes_of(run))


@pytest.mark.parametrize('keep', [0, 100, -1])
def test_a_file_that_is_cut_short_is_refused(run, keep):
    path = run.path / NAME
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match='copy or export the model again'):
        read_weights(path, shapes_of(run))


def test_a_huge_file_is_refused_before_it_is_read(run):
    with open(run.path / NAME, 'r+b') as file:
        file.truncate(2**40)  # sparse: it would fill the memory only when read
    with pytest.raises(UserError, match='has 1099511627776 bytes'):
        read_weights(run.path / NAME, shapes_of(run))


def test_a_header_that_lies_about_its_length_is_refused(run):
    path = run.path / NAME
    path.write_bytes((2**60).to_bytes(8, 'little') + path.read_bytes()[8:])
    with pytest.raises(UserError, match='not a readable safetensors file'):
        read_weights(path, shapes_of(run))


def test_arrays_of_another_network_are_refused_by_name(run):
    def change(arrays):
        arrays['unknown'] = arrays.pop('decoders_scene/embed/embedding')

    rewrite(run, change)
    with pytest.raises(UserError, match='missing: decoders_scene/embed/embedding; extra: unknown'):
        read_weights(run.path / NAME, shapes_of(run))


def test_another_type_of_number_is_refused(run):
    def change(arrays):
        name = 'decoders_scene/embed/embedding'
        arrays[name] = arrays[name].view(np.int32)

    rewrite(run, change)
    with pytest.raises(UserError, match='embedding in int32, but the network has float32'):
        read_weights(run.path / NAME, shapes_of(run))


def test_a_file_of_another_program_needs_no_metadata(run):
    rewrite(run, lambda arrays: None)
    assert read_weights(run.path / NAME, shapes_of(run))[1:] == (0, '')


def test_metadata_cannot_steer_a_terminal_or_fill_it(run):
    rewrite(run, lambda arrays: None, {'step': '9' * 5000, 'why': 'a\x1b[2J\n' + 'b' * 10_000})
    _, step, why = read_weights(run.path / NAME, shapes_of(run))
    assert step == 0
    assert why.startswith('a[2Jb') and len(why) == 300


def test_a_config_that_asks_for_a_huge_network_allocates_nothing(run):
    path = run.path / 'config.json'
    config = json.loads(path.read_text())
    config['model']['width'] = 1_000_000
    path.write_text(json.dumps(config))
    (run.path / 'digests.json').unlink()  # as whoever writes such a config would
    huge = run.open(run.path)
    with pytest.raises(UserError, match='but the parameters of its'):
        read_weights(run.path / NAME, shapes_of(huge))
