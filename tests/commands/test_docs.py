"""Every command line of the documentation is one that the commands understand."""

import ast
import importlib
import itertools
import re
import shlex
import textwrap

import pytest

from configs import common
from stg_jax.config import flat
from tests.fakes import fake_run

# Notes keep the commands of their day.
PAGES = [*fake_run.ROOT.glob('*.md'), *(fake_run.ROOT / 'docs').glob('*.md')]
OURS = ('stg_jax', 'configs')  # packages of this checkout
# What a synopsis adds to a command line: `(--videos FOLDER | --appearance FILE ...)`.
NOTATION = re.compile(r'\.\.\.|[(|)\[\]]')


def code_of(text):
    """Yield every line of code of a page but Python, with continued lines joined."""
    for number, part in enumerate(text.split('```')):
        if number % 2 and part.startswith('python\n'):
            continue
        if number % 2:
            yield from re.sub(r'\\\n\s*', ' ', part).splitlines()
        else:
            yield from re.findall(r'`([^`]+)`', part)


def commands_of(text):
    """Yield the script and the arguments of every command line of a page."""
    for line in code_of(text):
        if found := re.match(r'(?:\$ )?stg ([a-z].*)', line.strip()):
            yield ['stg', *shlex.split(NOTATION.sub(' ', found[1]), comments=True)]
        _, python, call = line.partition('python ')
        call = re.sub(r'^-m (stg_jax\S+)', lambda found: found[1].replace('.', '/') + '.py', call)
        if python and re.match('(launch|stg_jax)/', call):
            words = shlex.split(NOTATION.sub(' ', call), comments=True)
            ends = [index for index, word in enumerate(words) if word == '--']
            for start, end in itertools.pairwise([-1, *ends, len(words)]):
                yield words[start + 1 : end]


COMMANDS = sorted(
    {(path.name, *command) for path in PAGES for command in commands_of(path.read_text())}
)


def test_command_lines_are_found():
    page = '```\n$ python launch/x.py \\\n  a "b c" -- launch/y.py # d\n```\n`python -m stg_jax.z`'
    page += '\n```\nstg x --y z   # w\n```\n'
    expected = [['launch/x.py', 'a', 'b c'], ['launch/y.py'], ['stg_jax/z.py']]
    expected += [['stg', 'x', '--y', 'z']]
    assert list(commands_of(page)) == expected
    assert len(COMMANDS) > 20


@pytest.mark.parametrize('command', COMMANDS, ids=' '.join)
def test_a_documented_command_line_is_understood(command):
    page, script, *args = command
    if script == 'stg':
        parsed = fake_run.parse('stg', *args)
        assert parsed.returncode == 0, parsed.stderr
        return
    for word in (script, *re.findall(r'(?:configs|launch)/\w+\.py', ' '.join(args))):
        assert (fake_run.ROOT / word).is_file(), f'{page} names {word}'
    if script.startswith('launch/'):
        name = script.removeprefix('launch/').removesuffix('.py')
        parsed = fake_run.parse(name, *args)
        assert parsed.returncode == 0, parsed.stderr


def constants_of(folders):
    """Return the fixed parts of all strings of the code, joined by a mark for what is filled in."""
    parts = []
    for folder in folders:
        for path in sorted((fake_run.ROOT / folder).rglob('*.py')):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    found = [getattr(value, 'value', '...') for value in node.values]
                    parts.append(''.join(x if isinstance(x, str) else '...' for x in found))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    parts.append(node.value)
    return '\n'.join(parts)


def test_messages_to_look_up_are_those_of_the_code():
    page = (fake_run.ROOT / 'docs' / 'troubleshooting.md').read_text()
    messages = re.findall(r'^\|? ?`(.*\.\.\..*?)`(?= \|| means)', page, re.MULTILINE)
    assert len(messages) > 25
    code = constants_of(('stg_jax', 'launch'))
    for message in messages:
        for part in message.split('...'):
            assert part.strip(' :;') in code, f'{message}: no message has {part!r}'


def test_every_config_value_is_documented_with_its_default():
    page = (fake_run.ROOT / 'docs' / 'training.md').read_text()
    rows = dict(re.findall(r'^\| `([\w.]+)` \| (.*?) \|', page, re.MULTILINE))
    defaults = flat(common.get_config().to_dict())
    assert {key: repr(value) for key, value in defaults.items()} == {
        key: repr(ast.literal_eval(text)) for key, text in rows.items()
    }


def anchors_of(path):
    """Return the anchors that GitHub gives the headings of a page."""
    headings = re.findall(r'^#+ (.*)', path.read_text(), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading).lower().replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('page', PAGES, ids=lambda path: path.name)
def test_links_lead_to_files_and_headings(page):
    for target in re.findall(r'\]\(([^)\s]+)\)', page.read_text()):
        name, _, anchor = target.partition('#')
        if not name.startswith('http'):
            path = page.parent / name if name else page
            assert path.exists(), target
            assert not anchor or anchor in anchors_of(path), target


def names_of(text):
    """Yield the module and the name of every import of this project in a page's Python blocks."""
    for block in re.findall(r'```python\n(.*?)```', text, re.DOTALL):
        for node in ast.walk(ast.parse(textwrap.dedent(block))):
            if isinstance(node, ast.ImportFrom) and node.module.partition('.')[0] in OURS:
                yield from ((node.module, alias.name) for alias in node.names)
            elif isinstance(node, ast.Import):
                yield from ((a.name, None) for a in node.names if a.name.partition('.')[0] in OURS)


@pytest.mark.parametrize('page', PAGES, ids=lambda path: path.name)
def test_python_of_the_pages_imports_what_there_is(page):
    for module, name in names_of(page.read_text()):
        found = importlib.import_module(module)
        if name and not hasattr(found, name):
            importlib.import_module(f'{module}.{name}')


def test_the_code_is_where_the_tour_says():
    for name in ('code_tour.md', 'extending.md'):
        page = (fake_run.ROOT / 'docs' / name).read_text()
        found = re.findall(r'`([\w/]+\.py)(?::([\w.]+))?`', page)
        for path, defined in found:
            folders = [fake_run.ROOT, fake_run.ROOT / 'stg_jax', fake_run.ROOT / 'launch']
            files = [folder / path for folder in folders if (folder / path).is_file()]
            assert files or 'NAME' in path, f'{name}: {path}'
            for part in filter(None, defined.split('.')):
                assert re.search(rf'\b(def|class) {part}\b', files[0].read_text()), (path, part)
