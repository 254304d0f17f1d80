"""What runs elsewhere, in workflows, hooks and images, names what there is."""

import re
import tomllib

import pytest
import yaml

from tests.fakes.fake_run import ROOT

PROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
WORKFLOWS = sorted((ROOT / '.github' / 'workflows').glob('*.yml'))
TARGETS = set(re.findall(r'^([a-z-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE))


def steps_of(path):
    jobs = yaml.safe_load(path.read_text())['jobs']
    return [step for job in jobs.values() for step in job['steps']]


@pytest.mark.parametrize('path', WORKFLOWS, ids=lambda path: path.name)
def test_workflows_run_targets_and_scripts_that_exist(path):
    for step in steps_of(path):
        assert 'run' in step or re.fullmatch(r'[\w.-]+(/[\w.-]+)+@[\w./-]+', step['uses'])
        for target in re.findall(r'\bmake ([\w-]+)', step.get('run', '')):
            assert target in TARGETS
        for script in re.findall(r'\.ci/\w+', step.get('run', '')):
            assert (ROOT / script).is_file()


def test_workflows_run_every_python_that_the_package_names():
    named = [name.rpartition(' ')[2] for name in PROJECT['classifiers'] if ':: 3.' in name]
    for name in ('tests', 'ranges', 'release'):
        jobs = yaml.safe_load((ROOT / '.github' / 'workflows' / f'{name}.yml').read_text())['jobs']
        (matrix,) = (job['strategy']['matrix'] for job in jobs.values() if 'strategy' in job)
        assert matrix['python'] == named, name


def test_the_image_installs_extras_that_exist():
    text = (ROOT / 'Dockerfile').read_text()
    extras = re.search(r'^ARG EXTRAS=(.*)$', text, re.MULTILINE)[1].split(',')
    assert set(extras) <= set(PROJECT['optional-dependencies'])
    assert 'stg' in PROJECT['scripts'] and 'ENTRYPOINT ["stg"]' in text


class Loader(yaml.SafeLoader):
    """Reads mkdocs.yml, in which Python functions are named."""


Loader.add_multi_constructor('tag:yaml.org,2002:python/', lambda *_: None)


def test_every_page_is_in_the_navigation_of_the_site():
    # MkDocs warns of this, too; this test needs no MkDocs.
    nav = yaml.load((ROOT / 'mkdocs.yml').read_text(), Loader)['nav']
    pages = set(re.findall(r'[\w-]+\.md', str(nav)))
    made = {'index.md', 'contributing.md', 'changelog.md'}
    assert pages - made == {path.name for path in (ROOT / 'docs').glob('*.md')}
