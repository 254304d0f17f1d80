import importlib.util
import json

import jax
import numpy as np
import pytest

import stg_jax
from stg_jax.errors import UserError
from stg_jax.share import programs
from stg_jax.share.programs import TOLERANCE, check_same, example_features, make_program
from tests.fakes import fake_run
from tests.fakes.fake_export import fake_model

SIZES = {'data.max_words': 4, 'data.frames': 3, 'data.objects': 2, 'model.width': 16}
needs_jax2onnx = pytest.mark.skipif(
    importlib.util.find_spec('jax2onnx') is None, reason='needs the extra export'
)


def load(tmp_path, branch='scene', **changes):
    run = fake_model(tmp_path / 'model', gain=2.0, **SIZES, **changes)
    return stg_jax.load(run.path, branch=branch)


def as_loaded(folder):
    """Return a function that calls a StableHLO program with nothing but the files of the folder."""
    about = json.loads((folder / 'program.json').read_text())
    program = jax.export.deserialize(bytearray((folder / 'caption.stablehlo').read_bytes()))

    def caption(features):
        tokens, _ = program.call(*(features[name] for name in about['inputs']))
        end = about['outputs']['tokens']['end']
        texts = []
        for ids in np.asarray(tokens)[:, 0].tolist():
            texts.append(' '.join(about['words'][i] for i in ids[: ids.index(end)]))
        return texts

    return caption


@pytest.mark.slow
@pytest.mark.parametrize(
    ('branch', 'beam_size', 'changes'),
    [
        ('scene', 1, {}),
        ('object', 3, {}),
        ('joint', 2, {'model.fusion': 'concat', 'model.dtype': 'bfloat16'}),
    ],
)
def test_a_stablehlo_program_writes_the_captions_of_the_run(tmp_path, branch, beam_size, changes):
    captioner = load(tmp_path, branch, **changes)
    out = programs.write_programs(
        captioner, tmp_path / 'out', batch_size=2, beam_size=beam_size, forms=['stablehlo']
    )
    assert {path.name for path in out.iterdir()} == {'caption.stablehlo', 'program.json'}
    # Other features than those that the export has tried.
    program = make_program(captioner, batch_size=2, beam_size=beam_size)
    features = {
        name: value[::-1].copy() for name, value in example_features(captioner, program).items()
    }
    if not changes:  # the run of bfloat16 rounds more than the program does
        expected = captioner(features, beam_size=beam_size)
        assert len(set(expected)) == 2  # else the test shows little
        assert as_loaded(out)(features) == expected


@needs_jax2onnx
@pytest.mark.slow
@pytest.mark.parametrize(('branch', 'beam_size'), [('scene', 1), ('object', 3)])
def test_an_onnx_program_writes_the_captions_of_the_run(tmp_path, branch, beam_size):
    captioner = load(tmp_path, branch)
    out = programs.write_programs(
        captioner, tmp_path / 'out', batch_size=2, beam_size=beam_size, forms=['onnx']
    )
    import onnxruntime

    session = onnxruntime.InferenceSession(out / 'caption.onnx')
    program = make_program(captioner, batch_size=2, beam_size=beam_size)
    features = {
        name: value[::-1].copy() for name, value in example_features(captioner, program).items()
    }
    tokens, scores = session.run(['tokens', 'scores'], features)
    expected = captioner.search(features, beam_size, num_best=beam_size)
    np.testing.assert_array_equal(tokens, expected.token_BKL)
    np.testing.assert_allclose(scores, expected.score_BK, atol=TOLERANCE)


def test_inputs_are_what_the_branch_reads(tmp_path):
    scene = make_program(load(tmp_path), batch_size=5, beam_size=3)
    assert scene.about['inputs'] == {
        'appearance': {'shape': [5, 3, 8], 'dtype': 'float32'},
        'motion': {'shape': [5, 3, 6], 'dtype': 'float32'},
    }
    assert scene.about['outputs']['tokens']['shape'] == [5, 3, 5]
    assert scene.about['outputs']['scores']['shape'] == [5, 3]
    assert scene.about['words'][:4] == ['<pad>', '<bos>', '<eos>', '<unk>']


@pytest.mark.parametrize(
    ('tokens', 'scores', 'what'),
    [([[[5, 2]]], [[-1.0]], 'other captions'), ([[[4, 2]]], [[-1.001]], 'scores differ by 0.001')],
)
def test_a_program_that_computes_something_else_is_not_written(tokens, scores, what):
    expected = np.array([[[4, 2]]]), np.array([[-1.0]])
    check_same('onnx', expected, expected)
    with pytest.raises(UserError, match=what):
        check_same('onnx', (np.array(tokens), np.array(scores)), expected)


def test_a_program_that_fails_its_check_leaves_no_folder(tmp_path, monkeypatch):
    wrong = np.zeros((1, 1, 5), np.int32), np.zeros((1, 1), np.float32)
    right = wrong[0] + 4, wrong[1]
    monkeypatch.setitem(programs.FORMS, 'stablehlo', lambda program, folder: lambda features: wrong)
    monkeypatch.setattr(programs, '_run_plain', lambda *args: right)
    with pytest.raises(UserError, match='writes other captions'):
        programs.write_programs(load(tmp_path), tmp_path / 'out', forms=['stablehlo'])
    assert not (tmp_path / 'out').exists()


def test_an_unknown_form_is_refused(tmp_path):
    with pytest.raises(UserError, match='choose from stablehlo, onnx'):
        programs.write_programs(load(tmp_path), tmp_path / 'out', forms=['tflite'])


def test_flags_of_programs_are_refused_without_any(tmp_path):
    done = fake_run.run('export', tmp_path / 'run', tmp_path / 'out', '--batch_size=2')
    assert (done.returncode, done.stdout) == (2, '')
    assert 'pass --programs stablehlo,onnx, too' in done.stderr


@pytest.mark.skipif(importlib.util.find_spec('jax2onnx') is not None, reason='jax2onnx is there')
def test_a_missing_package_is_named_before_anything_is_compiled(tmp_path):
    with pytest.raises(UserError, match=r"pip install -e '\.\[export\]'"):
        programs.write_programs(load(tmp_path), tmp_path / 'out', forms=['onnx'])
