"""Flags of a command that runs as one of many processes, and how such a process ends."""

import functools
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
    'Run as one of many processes: start the same command on every host. TPU pods, Slurm, MPI and '
    'Kubernetes are detected; elsewhere set the next three flags.',
)
_COORDINATOR = flags.DEFINE_string('coordinator', None, 'HOST:PORT at which process 0 listens.')
_NUM_PROCESSES = flags.DEFINE_integer('num_processes', None, 'Number of all processes.', 1)
_PROCESS_ID = flags.DEFINE_integer('process_id', None, 'Number of this process, from 0.', 0)

FLAGS = (_MULTIHOST, _COORDINATOR, _NUM_PROCESSES, _PROCESS_ID)

_Main = Callable[[list[str]], int | None]


def joining(main: _Main) -> _Main:
    """Wrap `main` for `app.run`: with --multihost it first joins the other processes."""

    @functools.wraps(main)
    def joined(args: list[str]) -> int | None:
        if not _join():
            return main(args)
        try:
            return main(args)
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            _leave(error)

    return joined


def is_asked_for() -> bool:
    """Whether the command was started with --multihost."""
    return _MULTIHOST.value


def host() -> int:
    """Number of this process, 0 without --multihost."""
    if not _MULTIHOST.value:
        return 0
    from stg_jax.parallel import processes

    return processes.host()


def _join() -> bool:
    if not _MULTIHOST.value:
        parts = (_COORDINATOR, _NUM_PROCESSES, _PROCESS_ID)
        useless = [f'--{flag.name}' for flag in parts if flag.value is not None]
        if useless:
            raise UserError(f'{", ".join(useless)} must come with --multihost')
        return False
    from stg_jax.parallel import startup  # after the flags, so that --help is quick

    startup.join(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    return True


def _leave(error: BaseException) -> NoReturn:
    """Report the error and exit hard: the shutdown barrier of jax.distributed would hang."""
    from stg_jax.parallel import startup

    # Every host prints its own sentence; the launcher shows which host it came from.
    code = app.report_error(error)
    if code is not None:
        pass
    elif isinstance(error, SystemExit):  # by a signal, see `signals.exit_on_sigterm`
        code = error.code
    elif startup.is_lost_connection(error):
        print(
            f'another host no longer answers ({error}): its number follows once it is known, in '
            f'about {startup.LOST_AFTER} seconds',
            file=sys.stderr,
            flush=True,
        )
        # The coordination service ends this process once it has detected the lost host.
        time.sleep(2 * startup.LOST_AFTER)
    else:
        traceback.print_exception(error)
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: it would run the exit handlers of jax.distributed, which wait for the others.
    os._exit(code if isinstance(code, int) else 1)
