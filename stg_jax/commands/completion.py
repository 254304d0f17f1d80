"""Print the script with which a shell completes `stg`: commands, flags, configs and their keys.

source <(stg completion bash)                                  # in ~/.bashrc
source <(stg completion zsh)                                   # in ~/.zshrc
stg completion fish > ~/.config/fish/completions/stg.fish
"""

import importlib
from collections.abc import Iterable, Sequence

from absl import flags

from stg_jax import configs
from stg_jax.cli import app, program
from stg_jax.commands.main import module_of
from stg_jax.config import flat
from stg_jax.errors import UserError, did_you_mean

# Each script calls `stg completion words -- WORD ...` for the words that can replace the last one.
# If there are none, the shell completes file names.
SHELLS = {
    'bash': r"""
_stg() {
  local words=$(stg completion words -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
  local current=${COMP_WORDS[COMP_CWORD]}
  COMPREPLY=($(compgen -W "$words" -- "${current#=}"))
  [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
}
complete -o default -F _stg stg
""",
    'zsh': r"""
#compdef stg
_stg() {
  local -a found
  found=(${(f)"$(stg completion words -- "${(@)words[2,CURRENT]}" 2>/dev/null)"})
  compset -P '--*='
  (( $#found )) && compadd -Q -S '' -a found || _files
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _stg stg
""",
    'fish': r"""
function __stg_words
    set -l typed (commandline -opc)
    stg completion words -- $typed[2..] (commandline -ct) 2>/dev/null
end
complete -c stg -a '(__stg_words)'
""",
}
_WORDS = 'words'
FIRST_WORDS = tuple(SHELLS)


def run() -> None:
    """Run the command line of this process."""
    app.run(main)


def main(args: list[str]) -> None:
    """Print the script of a shell, or the completions that such a script asks for."""
    shell, *rest = args or ['']
    if shell == _WORDS:
        print('\n'.join(words_for(rest)))
    elif shell in SHELLS and not rest:
        print(SHELLS[shell].strip())
    else:
        hint = did_you_mean(shell, SHELLS)
        raise UserError(f'no shell {shell!r}: {hint}name one of {", ".join(SHELLS)}')


def words_for(typed: Sequence[str]) -> list[str]:
    """List the completions of the last of the words that were typed after `stg`.

    Nothing is listed where a file or free text is expected. The module of the command is imported:
    its flags are defined in this process.
    """
    # bash splits words at =, and passes it as a word.
    *before, current = [word for word in typed if word != '='] or ['']
    if typed and typed[-1] == '=':
        before, current = [*before, current], ''
    flag, equals, value = current.partition('=')
    if equals:
        before, current = [*before, flag], value
    if not before:
        return _starting(current, program.COMMANDS)
    if before[0] not in program.COMMANDS:
        return []
    if before[-1] in ('-config', '--config'):
        return _starting(current, configs.names())
    module = module_of(before[0])
    command = importlib.import_module(module)
    if current.startswith('--config.') and 'config' in flags.FLAGS:
        # All configs have the keys of the common one.
        return _starting(
            current, [f'--config.{key}=' for key in flat(configs.get_config().to_dict())]
        )
    own = {f'--{flag.name}': flag for flag in flags.FLAGS.get_key_flags_for_module(module)}
    if before[-1] in own and not own[before[-1]].boolean:
        return _starting(current, getattr(own[before[-1]].parser, 'enum_values', []))
    if current.startswith('-'):
        return _starting(current, own)
    return _starting(current, getattr(command, 'FIRST_WORDS', ())) if len(before) == 1 else []


def _starting(current: str, words: Iterable[str]) -> list[str]:
    return [word for word in words if word.startswith(current)]
