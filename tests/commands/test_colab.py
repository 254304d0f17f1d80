"""The notebooks: executed as they are, but for their parameters, and installed without harm."""

import importlib.metadata
import re
import shutil
import subprocess
import tomllib
import types
from pathlib import Path

import pytest

from tests.fakes.fake_run import ROOT, environment
from tests.fakes.fake_world import write_world

nbformat = pytest.importorskip('nbformat', reason='the notebooks need nbformat and nbclient')
nbclient = pytest.importorskip('nbclient', reason='the notebooks need nbformat and nbclient')

FOLDER = ROOT / 'launch' / 'colab'
TINY = {'width': 8, 'heads': 1, 'feedforward': 8} | dict.fromkeys(
    ('graph_layers', 'encoder_layers', 'decoder_layers'), 1
)
SOMEBODY = 'https://github.com/somebody/stg_jax'
NAMES = ['quickstart', 'your_videos']


def read(name):
    return nbformat.read(FOLDER / f'{name}.ipynb', as_version=4)


def execute(name, monkeypatch, **parameters):
    """Run all cells, with these parameters set after the cell that sets them; return outputs."""
    notebook = read(name)
    tagged = ['parameters' in cell.metadata.get('tags', ()) for cell in notebook.cells]
    place = tagged.index(True)
    for parameter in parameters:
        assert f'{parameter} = ' in notebook.cells[place].source
    lines = [f'{key} = {value!r}' for key, value in parameters.items()]
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell('\n'.join(lines)))
    for key, value in environment().items():
        monkeypatch.setenv(key, value)
    options = {'timeout': 300, 'resources': {'metadata': {'path': str(ROOT)}}}
    nbclient.NotebookClient(notebook, **options).execute()
    return [output for cell in notebook.cells for output in cell.get('outputs', ())]


def assert_shows_a_page(outputs):
    pages = [
        output.data['text/html'] for output in outputs if 'text/html' in output.get('data', ())
    ]
    assert any('srcdoc="&lt;!doctype html' in page for page in pages)
    assert any('image/png' in output.get('data', ()) for output in outputs)


@pytest.mark.slow
def test_quickstart_trains_captions_and_explains(tmp_path, monkeypatch):
    size = {'CLIPS': 'train=8,val=2,test=3', 'EPOCHS': 1, 'MODEL': TINY}
    outputs = execute('quickstart', monkeypatch, FOLDER=str(tmp_path / 'it'), **size)
    assert_shows_a_page(outputs)
    said = ''.join(output.get('text', '') for output in outputs)
    assert all(f'test0000{k}.mp4' in said for k in range(3))


@pytest.mark.slow
def test_your_videos_prepares_trains_and_captions(tmp_path, monkeypatch):
    captions, videos = write_world(tmp_path)
    own = {'VIDEOS': str(videos), 'CAPTIONS': str(captions), 'EXTRACTOR': 'pixels'}
    # One branch is compiled faster than two; the quickstart trains both.
    size = {'FOLDER': str(tmp_path / 'it'), 'EPOCHS': 1, 'MODEL': TINY | {'branches': 'scene'}}
    assert_shows_a_page(execute('your_videos', monkeypatch, **own, **size))


def install(name, monkeypatch, folder, *, repository=SOMEBODY, **versions):
    """Run the first cell as in a fresh runtime; return its commands, of which none is run."""
    commands = []

    def run(command, check):
        assert check
        commands.append(command)
        if command[0] == 'git':
            Path(command[-1]).mkdir()
            shutil.copy(ROOT / 'pyproject.toml', command[-1])

    found = [types.SimpleNamespace(name=k, version=v) for k, v in versions.items()]
    monkeypatch.setattr(importlib.metadata, 'distributions', lambda: found)
    monkeypatch.setattr(subprocess, 'run', run)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)  # so that what the cell adds goes away again
    source, nothing = first_code(name), "REPOSITORY = ''"
    assert nothing in source
    exec(source.replace(nothing, f'REPOSITORY = {repository!r}'), {})
    return commands


@pytest.mark.parametrize('name', NAMES)
def test_installing_keeps_the_jax_of_the_runtime(name, tmp_path, monkeypatch):
    versions = {'jax': '0.9.1', 'jaxlib': '0.9.1', 'jax-cuda12-plugin': '0.9.1', 'libtpu': '1.2'}
    clone, pip = install(name, monkeypatch, tmp_path, **versions, flax='1')
    assert clone[:2] == ['git', 'clone'] and pip[1:4] == ['-m', 'pip', 'install']
    assert pip[pip.index('-c') + 1] == 'keep.txt'
    assert pip[-1].startswith('./stg_jax[')
    kept = (tmp_path / 'keep.txt').read_text().split()
    assert sorted(kept) == sorted(f'{key}=={value}' for key, value in versions.items())
    assert Path.cwd() == tmp_path / 'stg_jax'


@pytest.mark.parametrize('name', NAMES)
def test_a_runtime_that_cannot_be_kept_is_refused_before_pip(name, tmp_path, monkeypatch):
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
    needed = next(line for line in project['dependencies'] if line.startswith('jax>'))
    with pytest.raises(SystemExit, match=re.escape(f'{needed}, this runtime has 0.4.35')):
        install(name, monkeypatch, tmp_path, jax='0.4.35')
    assert not (tmp_path / 'keep.txt').exists()


@pytest.mark.parametrize('name', NAMES)
def test_an_address_that_nobody_wrote_is_asked_for(name, tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match='write the address of your copy'):
        install(name, monkeypatch, tmp_path, repository='')
    assert list(tmp_path.iterdir()) == []


def first_code(name):
    return next(cell.source for cell in read(name).cells if cell.cell_type == 'code')


@pytest.mark.parametrize('name', NAMES)
def test_a_notebook_is_committed_without_outputs(name):
    notebook = read(name)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get('outputs') and cell.get('execution_count') is None


def test_videos_are_looked_for_where_they_were_uploaded(tmp_path):
    check = next(cell.source for cell in read('your_videos').cells if 'if DRIVE' in cell.source)
    (tmp_path / 'mine').mkdir()
    names = {'DRIVE': False, 'START': tmp_path, 'VIDEOS': 'mine', 'CAPTIONS': 'mine/c.csv'}
    with pytest.raises(SystemExit, match=r'mine/c\.csv does not exist: upload it'):
        exec(check, {'Path': Path} | names)
    (tmp_path / 'mine' / 'c.csv').touch()
    exec(check, names := {'Path': Path} | names)
    assert names['VIDEOS'] == str(tmp_path / 'mine')
