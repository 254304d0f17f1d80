"""How the user started the program, `stg train` or `python launch/train.py`, and its spelling."""

import re
import sys
from pathlib import Path

NAME = 'stg'
# All commands by section, in the order of `stg --help`. The module of a command is
# stg_jax/commands/NAME.py with _ for -.
SECTIONS = {
    'Start': ('demo',),
    'Data': ('prepare', 'inspect', 'verify'),
    'Training': ('config', 'train', 'evaluate', 'plot', 'sweep', 'compare'),
    'Captions': ('caption', 'web-demo', 'serve', 'explain', 'score'),
    'Sharing': ('export', 'push'),
    'Machines': ('benchmark', 'rehearse', 'tpu-estimate'),
    'Shell': ('completion',),
}
COMMANDS = tuple(name for names in SECTIONS.values() for name in names)
_SCRIPTS = {name.replace('-', '_'): name for name in COMMANDS} | {'inspect_file': 'inspect'}
# A script, with the interpreter and the folder where they are typed, but in no other folder.
_SCRIPT = re.compile(rf'(?<![\w/.])(?:python )?(?:launch/)?({"|".join(_SCRIPTS)})\.py\b')
_EXTRAS = re.compile(r"pip install -e '\.(\[[\w,]+\])'")
_CONFIG = re.compile(r'(--config[ =])configs/(\w+)\.py\b')


def name() -> str:
    """Name of the running program, to put before its messages."""
    return Path(sys.argv[0]).name


def command(name: str) -> list[str]:
    """Start of the command line that runs a command in a process of its own."""
    return [sys.executable, '-m', 'stg_jax', name]


def spelled(text: str) -> str:
    """Spell the command lines in a text as the user can type them.

    Texts name the scripts of a checkout, `python launch/train.py --config configs/toy.py`. Those
    who started `stg` read `stg train --config toy`, and `pip install 'stg-jax[plot]'` where there
    is no checkout to install from.
    """
    if not _is_checkout():
        text = _EXTRAS.sub(r"pip install 'stg-jax\1'", text)
    if name().partition(' ')[0] != NAME:
        return text
    text = _SCRIPT.sub(lambda found: f'{NAME} {_SCRIPTS[found[1]]}', text)
    return _CONFIG.sub(r'\1\2', text)


def _is_checkout() -> bool:
    return (Path(__file__).parents[2] / 'pyproject.toml').is_file()
