"""The command `stg`: what it starts, how it spells commands, and what shells complete."""

import subprocess
import sys

import pytest

from stg_jax import configs
from stg_jax.cli import config_flag, program
from stg_jax.commands import completion, main
from stg_jax.config import flat
from stg_jax.errors import UserError
from tests.fakes import fake_run

ROOT = fake_run.ROOT


@pytest.fixture
def stg(monkeypatch, capsys):
    """Return a function that runs `stg` in this process: its exit code and its output."""

    def run(*args):
        monkeypatch.setattr(sys, 'argv', ['/bin/stg', *args])
        with pytest.raises(SystemExit) as ended:
            main.main()
        return ended.value.code, *capsys.readouterr()

    return run


@pytest.mark.parametrize('args', [[], ['--help'], ['help']], ids=' '.join)
def test_the_overview_lists_every_command_with_what_it_does(stg, args):
    code, out, _ = stg(*args)
    assert code == 0
    for name in program.COMMANDS:
        [line] = [line for line in out.splitlines() if line.split()[:1] == [name]]
        assert len(line.split()) > 3


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['trian'], "stg: there is no command 'trian': did you mean train? stg --help lists all\n"),
        (['zzz'], "stg: there is no command 'zzz': stg --help lists all\n"),
        (['--zzz'], 'stg: there is no flag --zzz: see --help\n'),
    ],
)
def test_what_is_no_command_is_refused_in_one_sentence(stg, args, message):
    code, out, error = stg(*args)
    assert (code, out) == (2, '')
    assert error == message


def test_a_config_is_printed_as_flags_with_their_meaning(stg):
    code, out, _ = stg('config', 'ablations:dense')
    assert code == 0
    lines = {line.split('=')[0]: line for line in out.splitlines()}
    assert len(lines) == len(flat(configs.get_config().to_dict()))
    assert lines['* --config.model.graph'].split()[:2] == ['*', '--config.model.graph=dense']
    assert lines['  --config.optim.clip'].endswith('  global gradient norm [D]')


def test_every_module_is_a_command_and_every_script_starts_one():
    own = {path.stem for path in (ROOT / 'stg_jax/commands').glob('*.py')} - {'__init__', 'main'}
    assert {main.module_of(name).rpartition('.')[2] for name in program.COMMANDS} == own
    scripts = {path.stem.removesuffix('_file') for path in (ROOT / 'launch').glob('*.py')}
    assert scripts == own - {'demo', 'completion', 'config'}


@pytest.mark.parametrize(
    ('text', 'spelled'),
    [
        ('python launch/train.py --config configs/toy.py', 'stg train --config toy'),
        ('write one with launch/prepare.py', 'write one with stg prepare'),
        ('inspect_file.py and web_demo.py', 'stg inspect and stg web-demo'),
        # Neither files of the user nor other files of the project.
        ('configs/common.py, my/train.py, plot.pyc', 'configs/common.py, my/train.py, plot.pyc'),
    ],
)
def test_commands_are_spelled_as_they_were_started(monkeypatch, text, spelled):
    monkeypatch.setattr(sys, 'argv', ['stg train'])
    assert program.spelled(text) == spelled
    monkeypatch.setattr(sys, 'argv', ['launch/train.py'])
    assert program.spelled(text) == text


def test_extras_are_those_of_a_checkout_or_of_the_package(monkeypatch):
    text = "pip install -e '.[extract,plot]'"
    assert program.spelled(text) == text
    monkeypatch.setattr(program, '_is_checkout', lambda: False)
    assert program.spelled(text) == "pip install 'stg-jax[extract,plot]'"


def test_a_config_has_a_name_or_is_a_file(tmp_path, monkeypatch):
    bundled = [str(configs.path_of('toy')), f'{configs.path_of("ablations")}:dense']
    own = tmp_path / 'toy.py'
    own.write_text('')
    monkeypatch.chdir(tmp_path)  # where there is no configs/
    typed = ['x', '--config=toy', '--config', 'ablations:dense', '--config=configs/toy.py']
    typed += ['--config', 'toy.py', '--config=no/such.py', '--out=toy', '--', '--config=toy']
    found = config_flag.with_paths(typed)
    paths = [*bundled, bundled[0], 'toy.py', 'no/such.py']
    assert found == ['x', *(f'--config={path}' for path in paths), *typed[-3:]]


def test_a_mistyped_config_is_answered_with_the_names():
    with pytest.raises(
        UserError, match=r'no config msvdd: did you mean msvd\? name a file, or one'
    ):
        config_flag.with_paths(['x', '--config=msvdd'])
    with pytest.raises(UserError, match='no config nix: name a file, or one of ablations, common'):
        configs.get_config('nix')


def test_bundled_configs_are_those_of_the_checkout():
    assert configs.names() == sorted(path.stem for path in (ROOT / 'configs').glob('*.py'))
    assert configs.get_config('ablations:dense').model.graph == 'dense'
    assert configs.get_config().model.graph == 'full'


@pytest.mark.parametrize(
    ('typed', 'expected'),
    [
        (['tr'], ['train']),
        (['train', '--config', 'ms'], ['msrvtt', 'msvd']),
        (['train', '--config=ow'], ['own']),
        (['train', '--config', '=', 'ow'], ['own']),  # as bash splits it
        (['nothing', ''], []),
    ],
)
def test_shells_complete_commands_and_configs(typed, expected):
    assert completion.words_for(typed) == expected


@pytest.mark.parametrize(
    ('typed', 'expected'),
    [
        ('train --wor', '--workdir\n'),
        ('train --config msvd --config.optim.l', '--config.optim.lr=\n'),
        ('prepare --nodes ', 'boxes\ngrid\n'),
        ('prepare --nodes=g', 'grid\n'),
        ('train --workdir ', '\n'),
        ('prepare ms', 'msvd\nmsrvtt\n'),
        ('config toy', 'toy\ntoy_best\n'),
    ],
)
def test_shells_complete_flags_and_their_values(typed, expected):
    code = 'import sys; from stg_jax.commands import completion as c; '
    code += 'print("\\n".join(c.words_for(sys.argv[1:])))'
    done = subprocess.run(
        [sys.executable, '-c', code, *typed.split(' ')],
        capture_output=True,
        text=True,
        env=fake_run.environment(),
    )
    assert done.stdout == expected, done.stderr


def test_help_has_sections_with_the_common_flags_first():
    done = fake_run.run('prepare', '--help')
    assert done.returncode == 0, done.stderr
    titles = ['Flags:', 'The toy world:', 'From feature files:', 'From videos:', 'Many machines:']
    places = [done.stdout.index(f'\n{title}\n') for title in titles]
    assert places == sorted(places)
    assert done.stdout.index('--out:') < places[1] < done.stdout.index('--clips:') < places[2]
    assert done.stdout.count('--[no]dry') == 1  # and not its other spelling
