"""The wheel: what it holds, how large it is, and what it says of the project."""

import email
import importlib.util
import subprocess
import sys
import zipfile

import pytest

from stg_jax.cli import program
from stg_jax.commands.main import module_of
from tests.fakes.fake_run import ROOT

ADDRESS = 'https://example.org/somebody/stg_jax'


@pytest.fixture(scope='module')
def hook():
    pytest.importorskip('hatchling')
    spec = importlib.util.spec_from_file_location('hook', ROOT / '.ci/hatch_metadata.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    pytest.importorskip('hatchling')
    out = tmp_path_factory.mktemp('dist')
    command = [sys.executable, '-m', 'hatchling', 'build', '-t', 'wheel', '-d', str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = out.iterdir()
    return path


def test_the_wheel_is_small_and_holds_the_package_with_its_configs(wheel):
    assert wheel.stat().st_size < 1_000_000
    names = set(zipfile.ZipFile(wheel).namelist())
    packages = {name.partition('/')[0] for name in names}
    assert len(packages) == 2 and 'stg_jax' in packages  # and the metadata
    for path in (ROOT / 'configs').glob('*.py'):
        assert f'stg_jax/configs/{path.name}' in names
    for command in program.COMMANDS:
        assert f'{module_of(command).replace(".", "/")}.py' in names
    assert not [name for name in names if 'test' in name]


def test_the_wheel_says_what_an_index_shows(wheel):
    archive = zipfile.ZipFile(wheel)
    (path,) = (name for name in archive.namelist() if name.endswith('.dist-info/METADATA'))
    metadata = email.message_from_string(archive.read(path).decode())
    assert metadata['Author'] and metadata['License-Expression'] == 'Apache-2.0'
    assert len(metadata.get_all('Classifier')) > 5
    assert metadata['Description-Content-Type'] == 'text/markdown'
    assert '](docs/' not in metadata.get_payload()
    entry = archive.read(path.replace('METADATA', 'entry_points.txt')).decode()
    assert 'stg = stg_jax.commands.main:main' in entry


@pytest.mark.parametrize(
    ('remote', 'address'),
    [
        ('git@example.org:somebody/stg_jax.git', ADDRESS),
        ('ssh://git@example.org/somebody/stg_jax', ADDRESS),
        (f'{ADDRESS}.git/', ADDRESS),
        ('/srv/git/stg_jax', None),
        ('file:///srv/git/stg_jax', None),
        ('', None),
    ],
)
def test_a_remote_is_turned_into_the_address_of_its_page(hook, remote, address):
    assert hook.web_address(remote) == address


def test_a_source_package_keeps_the_address_of_its_checkout(hook, tmp_path):
    (tmp_path / 'PKG-INFO').write_text(f'Name: x\nProject-URL: Repository, {ADDRESS}\n')
    assert hook.repository(tmp_path) == ADDRESS
    (tmp_path / 'PKG-INFO').write_text('Name: x\n')
    assert hook.repository(tmp_path) is None


def test_links_are_absolute_or_only_their_words(hook):
    text = '[a](docs/a.md) ![b](b.jpg) [c](https://c.org) [d](#d)'
    assert hook.with_links(text, ADDRESS) == (
        f'[a]({ADDRESS}/blob/main/docs/a.md) ![b]({ADDRESS}/raw/main/b.jpg) '
        '[c](https://c.org) [d](#d)'
    )
    assert hook.with_links(text, None) == 'a  [c](https://c.org) [d](#d)'


def test_no_page_shows_a_placeholder():
    for path in [*ROOT.glob('*.md'), *ROOT.glob('docs/*.md'), *ROOT.glob('launch/colab/*.ipynb')]:
        assert 'github.com/OWNER' not in path.read_text(encoding='utf-8'), path
