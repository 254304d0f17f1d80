"""The flags of a command that runs as one of many processes, and how such a process ends."""

import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

from absl import flags

from stg_jax.cli import app
from stg_jax.errors import UserError

_MULTIHOST = flags.DEFINE_bool(
    'multihost',
    False,
    'Run as one of many processes, started alike on every host; TPU pods, Slurm, MPI and '
    'Kubernetes are detected, elsewhere the next three flags tell.',
)
_COORDINATOR = flags.DEFINE_string('coordinator', None, 'HOST:PORT at which process 0 listens.')
_NUM_PROCESSES = flags.DEFINE_integer('num_processes', None, 'Number of all processes.', 1)
_PROCESS_ID = flags.DEFINE_integer('process_id', None, 'Number of this process, from 0.', 0)

_Main = Callable[[list[str]], int | None]


def joining(main: _Main) -> _Main:
    """Return `main` for `cli.run`, preceded by joining the other processes if asked to."""

    def joined(args: list[str]) -> int | None:
        if not _join():
            return main(args)
        try:
            return main(args)
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            _leave(error)

    return joined


def is_asked_for() -> bool:
    """Return whether this is one of many processes, perhaps the only one."""
    return _MULTIHOST.value


def host() -> int:
    """Return the number of this process."""
    if not _MULTIHOST.value:
        return 0
    from stg_jax.parallel import processes

    return processes.host()


def _join() -> bool:
    given = {flag.name: flag.value for flag in (_COORDINATOR, _NUM_PROCESSES, _PROCESS_ID)}
    if not _MULTIHOST.value:
        useless = [f'--{name}' for name, value in given.items() if value is not None]
        if useless:
            raise UserError(f'{", ".join(useless)} must come with --multihost')
        return False
    from stg_jax.parallel import startup  # after the flags, so that --help is quick

    startup.join(*given.values())
    return True


def _leave(error: BaseException) -> NoReturn:
    """Report the error and exit hard: the shutdown barrier of jax.distributed would hang."""
    from stg_jax.parallel import startup

    code = app.report_error(error)
    if code is not None:
        pass
    elif isinstance(error, SystemExit):  # by a signal, see `signals.exit_on_sigterm`
        code = error.code
    elif startup.is_lost_connection(error):
        print(
            f'another host does not answer any more ({error}): its number follows once it is '
            f'known, in about {startup.LOST_AFTER} seconds',
            file=sys.stderr,
            flush=True,
        )
        # The coordination service ends this process when it has found out.
        time.sleep(2 * startup.LOST_AFTER)
    else:
        traceback.print_exception(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)
