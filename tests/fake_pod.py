"""A function in several processes that are hosts to each other, forked with the imports done."""

import functools
import multiprocessing

from stg_jax.pod.processes import free_port

_WAIT = 600  # seconds


def run(num_processes, num_devices, fn, *args):
    """Call `fn(*args)` in every process, after joining; return what it returned in each."""
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
        found = dict(results.get(timeout=_WAIT) for _ in processes)
    finally:
        for process in processes:
            process.join(_WAIT)
            process.kill()
    return [found[number] for number in range(num_processes)]


@functools.cache
def _forks():
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['stg_jax.train.loop', 'stg_jax.evaluate.evaluate'])
    return context


def _in_process(results, port, num_processes, number, num_devices, fn, args):
    import jax

    from stg_jax.errors import UserError
    from stg_jax.train import parallel

    jax.config.update('jax_num_cpu_devices', num_devices)
    parallel.join(f'127.0.0.1:{port}', num_processes, number)
    try:
        results.put((number, fn(*args)))
    except UserError as error:
        results.put((number, error))
