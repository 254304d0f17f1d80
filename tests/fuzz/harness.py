"""Read damaged files in another process, which may crash or hang, and collect what goes wrong."""

import dataclasses
import faulthandler
import multiprocessing
import random
import resource
import shutil
import tempfile
import traceback
from pathlib import Path

from stg_jax.cli.app import system_error
from stg_jax.errors import UserError
from tests.fakes import fake_run
from tests.fuzz import targets
from tests.fuzz.mutations import mutate

_TIMEOUT = 60  # seconds for one case; the first one of a process imports its libraries
_MEMORY = 8 << 30  # bytes of address space beyond those of the libraries
_NO_SPACE = ('Cannot allocate memory', 'bad_alloc')


@dataclasses.dataclass(frozen=True)
class Finding:
    """A case that neither was read nor ended in one sentence."""

    target: str
    case: int
    file: str
    problem: str


def fuzz(target, cases):
    """Run the cases (numbers, which are their seeds) of a target; return the findings."""
    findings, cases = [], list(cases)
    while cases:
        done, found = _run_process(target, cases)
        findings += found
        cases = cases[done:]
    return findings


def _run_process(target, cases):
    """Run cases until the process ends; return how many are done, and the findings."""
    ours, theirs = multiprocessing.Pipe()
    # Forked from a process that has imported the large libraries; a crash ends only the fork.
    process = fake_run.forks().Process(target=_serve, args=(target, cases, theirs), daemon=True)
    process.start()
    theirs.close()
    done, findings = 0, []
    try:
        while done < len(cases):
            if not ours.poll(_TIMEOUT):
                findings.append(Finding(target, cases[done], '', f'a hang of {_TIMEOUT} s'))
                return done + 1, findings
            findings += ours.recv()
            done += 1
    except EOFError:
        process.join()
        problem = f'the process ended with {process.exitcode}'
        return done + 1, [*findings, Finding(target, cases[done], '', problem)]
    finally:
        process.kill()
        process.join()
    return done, findings


def _serve(target, cases, connection):
    faulthandler.enable()
    with tempfile.TemporaryDirectory() as name:
        seeds = Path(name, 'seeds')
        seeds.mkdir()
        targets.TARGETS[target].make(seeds)
        expected = targets.TARGETS[target].read(seeds)
        soft = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (_used_space() + _MEMORY, soft))
        for case in cases:
            connection.send(_run_case(target, case, seeds, Path(name, 'case'), expected))


def _used_space():
    pages = int(Path('/proc/self/statm').read_text().split()[0])
    return pages * resource.getpagesize()


def _run_case(name, case, seeds, folder, expected):
    target, rng = targets.TARGETS[name], random.Random(f'{name} {case}')
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(seeds, folder)
    files = sorted(path for path in folder.rglob('*') if path.is_file())
    file = rng.choice(files)
    content = file.read_bytes()
    mutated = mutate(content, rng)
    file.write_bytes(mutated)
    where = str(file.relative_to(folder))
    try:
        found = target.read(folder)
    except UserError:
        return []
    except Exception as error:
        if system_error(error) or any(text in str(error) for text in _NO_SPACE):
            return []  # one sentence as well
        return [Finding(name, case, where, _last_frames(error))]
    if target.has_checksums and mutated != content and not targets.equal(found, expected):
        return [Finding(name, case, where, 'silently read as something else')]
    return []


def _last_frames(error):
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f'{Path(f.filename).name}:{f.lineno}' for f in frames if 'stg_jax' in f.filename]
    return f'{type(error).__name__}: {str(error)[:200]} at {" < ".join(ours[::-1][:3])}'
