"""`stg COMMAND`: the command line of the installed package.

To add one, write stg_jax/commands/NAME.py with flags, `main` and `run`, and list it in `SECTIONS`
of stg_jax/cli/program.py (docs/extending.md).
"""

import ast
import importlib
import sys
from pathlib import Path

import stg_jax
from stg_jax.cli import app, program
from stg_jax.errors import UserError, did_you_mean

_HELP = ('-h', '-help', '--help', 'help')


def main() -> None:
    """Run the command that the first argument names."""
    _, *args = sys.argv
    # `stg help train` is `stg train --help`.
    if args[:1] == ['help'] and len(args) > 1:
        args = [args[1], '--help']
    if args and args[0] in program.COMMANDS:
        command, *rest = args
        sys.argv = [f'{program.NAME} {command}', *rest]
        importlib.import_module(module_of(command)).run()  # exits
    sys.argv = [program.NAME, *(arg for arg in args if arg not in _HELP)]
    app.run(_without_command)


def module_of(command: str) -> str:
    """Name the module of a command."""
    return f'stg_jax.commands.{command.replace("-", "_")}'


def _without_command(args: list[str]) -> None:
    """Print the overview, or refuse an unknown command."""
    if args:
        hint = did_you_mean(args[0], program.COMMANDS)
        raise UserError(f'there is no command {args[0]!r}: {hint}stg --help lists all')
    print(_overview())


def _overview() -> str:
    width = max(map(len, program.COMMANDS))
    lines = [(stg_jax.__doc__ or '').splitlines()[0], '', 'Usage: stg COMMAND [FLAGS]']
    for section, commands in program.SECTIONS.items():
        lines += ['', f'{section}:']
        lines += [f'  {command:<{width}}  {_summary(command)}' for command in commands]
    return '\n'.join([*lines, '', 'The flags of a command: stg COMMAND --help'])


def _summary(command: str) -> str:
    """Read the first line of a command's docstring without importing its module, which is slow."""
    name = module_of(command).rpartition('.')[2]
    source = Path(__file__).with_name(f'{name}.py').read_text(encoding='utf-8')
    first = (ast.get_docstring(ast.parse(source)) or '').splitlines()[0]
    return program.spelled(first.partition(': ')[0].rstrip('.'))
