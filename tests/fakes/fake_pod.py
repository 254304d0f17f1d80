"""A function in several processes that are hosts to each other, forked with the imports done."""

import contextlib
import functools
import multiprocessing
import queue
import time

from stg_jax.cluster.local_pod import free_port
from tests.fakes.fake_run import SLOW_TO_IMPORT

_WAIT = 300  # seconds for all to end
_LAST_WORDS = 40  # seconds for the others when one has died without a result


def run(num_processes, num_devices, fn, *args):
    """Call `fn(*args)` in every process, after joining; return what it returned in each.

    A UserError is a result as well; any other error is printed by its process and raised here.
    """
    forks, port = _forks(), free_port()
    results = forks.Queue()
    processes = [
        forks.Process(
            target=_in_process, args=(results, port, num_processes, number, num_devices, fn, args)
        )
        for number in range(num_processes)
    ]
    for process in processes:
        process.start()
    try:
        found = _results(results, processes)
    finally:
        for process in processes:
            process.kill()
            process.join()
    return [found[number] for number in range(num_processes)]


def _results(results, processes):
    """Return {number of a process: its result}, or say which ended without one."""
    found, deadline = {}, time.monotonic() + _WAIT
    while len(found) < len(processes):
        with contextlib.suppress(queue.Empty):
            number, result = results.get(timeout=1)
            found[number] = result
            continue
        dead = {n: p.exitcode for n, p in enumerate(processes) if p.exitcode and n not in found}
        if dead:
            deadline = min(deadline, time.monotonic() + _LAST_WORDS)
        if time.monotonic() > deadline:
            raise RuntimeError(
                f'no result of {len(processes) - len(found)} processes; died: {dead}'
            )
    return found


@functools.cache
def _forks():
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(SLOW_TO_IMPORT)
    return context


def _in_process(results, port, num_processes, number, num_devices, fn, args):
    import jax

    from stg_jax.errors import UserError
    from stg_jax.parallel import startup

    jax.config.update('jax_num_cpu_devices', num_devices)
    startup.join(f'127.0.0.1:{port}', num_processes, number)
    try:
        results.put((number, fn(*args)))
    except UserError as error:
        results.put((number, error))
