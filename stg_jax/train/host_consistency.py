"""Whether all hosts are about to do the same work; asked once, before the first step."""

import hashlib
import importlib.metadata
import json
import platform
import sys
from typing import Any

from stg_jax.config import Config
from stg_jax.data.captions import read_captions
from stg_jax.errors import UserError
from stg_jax.parallel import processes
from stg_jax.train.plan import Plan

# Packages that decide which program runs and which clips it sees.
_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy', 'tensorflow')
_MAY_DIFFER = ('data.dir',)  # a path can be another on each host; what lies there may not


def check_same_world(config: Config, plan: Plan) -> None:
    """Compare config, data, vocabulary and versions of all hosts, and say which host is which.

    Raises:
      UserError: a host differs from host 0; the sentence names it and what differs.
    """
    if processes.num_hosts() == 1:
        return
    worlds = processes.gather({'name': platform.node(), 'facts': _facts(config, plan)})
    first = worlds[0]['facts']
    for host, world in enumerate(worlds):
        different = [
            f'{key} is {world["facts"].get(key)!r}, on host 0 {first.get(key)!r}'
            for key in sorted(first.keys() | world['facts'].keys())
            if world['facts'].get(key) != first.get(key)
        ]
        if different:
            raise UserError(
                f'host {host} ({world["name"]}) is not like host 0 ({worlds[0]["name"]}): '
                f'{"; ".join(different)}: give all hosts the same config, data and packages'
            )
    if processes.is_first():
        names = ', '.join(f'{host} on {world["name"]}' for host, world in enumerate(worlds))
        print(f'{len(worlds)} hosts: {names}', file=sys.stderr)


def _facts(config: Config, plan: Plan) -> dict[str, Any]:
    """Return all that must be equal, by the name under which a user knows it."""
    from stg_jax.data.shards import open_split  # loads TensorFlow, which one host may do without

    facts = {f'config.{key}': v for key, v in config.flat().items() if key not in _MAY_DIFFER}
    facts['manifest.json of the data'] = _digest(vars(plan.manifest))
    facts['the vocabulary'] = _digest(plan.vocab.words)
    for split in plan.manifest.splits:
        opened = open_split(config.data.dir, split)
        captions = read_captions(config.data.dir, split)
        facts[f'captions-{split}.jsonl of the data'] = _digest(captions)
        facts[f'the shards of split {split}'] = _digest(list(map(int, opened.lengths)))
    packages = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return facts | packages | {'Python': platform.python_version()}


def _digest(value: Any) -> str:
    data = json.dumps(value, sort_keys=True, default=list).encode()
    return hashlib.sha256(data).hexdigest()[:12]
