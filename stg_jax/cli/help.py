"""The text of --help: what a command does, with examples, then its flags in sections."""

import sys
from collections.abc import Iterable

from absl import flags

from stg_jax.cli import program


def help_text(module: str) -> str:
    """Describe a command: the docstring of its module, and its flags.

    Flags come in the order of their definitions. Those that the module lists in `SECTIONS`, a
    dictionary from titles to flags, come below their titles, after all others.
    """
    command = sys.modules[module]
    sections = getattr(command, 'SECTIONS', {})
    apart = {flag.name for each in sections.values() for flag in each}
    own = [flag.name for flag in flags.FLAGS.get_key_flags_for_module(module)]
    common = [name for name in own if name not in apart and not _is_alias(name)]
    blocks = [_block('Flags', common)]
    blocks += [_block(title, (flag.name for flag in each)) for title, each in sections.items()]
    return '\n\n'.join([program.spelled((command.__doc__ or '').strip()), *filter(None, blocks)])


def _block(title: str, names: Iterable[str]) -> str:
    lines = [_describe(flags.FLAGS[name]) for name in names]
    return '\n'.join([f'{title}:', *lines]) if lines else ''


def _describe(flag: flags.Flag) -> str:
    name = f'--[no]{flag.name}' if flag.boolean else f'--{flag.name}'
    facts = [f'default: {flag.default_as_str}'] if flag.default is not None else []
    facts += [flag.parser.syntactic_help] if flag.parser.syntactic_help else []
    text = f'{name}: {program.spelled(flag.help or "")}'
    text += f' ({"; ".join(facts)})' if facts else ''
    return flags.text_wrap(text, length=100, indent='      ', firstline_indent='  ')


def _is_alias(name: str) -> bool:
    """Whether a flag is another spelling of one that is listed."""
    return '-' in name
