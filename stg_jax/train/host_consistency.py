"""Check before the first step that all hosts are about to do the same work.

Hosts that differ would not fail: each would compute its part of another gradient, and the run would
train to something that no config describes.
"""

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
_MAY_DIFFER = ('data.dir',)  # hosts may mount the same data at different paths


def check_same_on_all_hosts(config: Config, plan: Plan) -> None:
    """Compare config, data, vocabulary and versions of all hosts, and print their names.

    Raises:
      UserError: a host differs from host 0; the message names it and what differs.
    """
    if processes.num_hosts() == 1:
        return
    hosts = processes.gather({'name': platform.node(), 'facts': _facts(config, plan)})
    first = hosts[0]['facts']
    for number, host in enumerate(hosts):
        different = [
            f'{key} is {host["facts"].get(key)!r}, on host 0 {first.get(key)!r}'
            for key in sorted(first.keys() | host['facts'].keys())
            if host['facts'].get(key) != first.get(key)
        ]
        if different:
            raise UserError(
                f'host {number} ({host["name"]}) is not like host 0 ({hosts[0]["name"]}): '
                f'{"; ".join(different)}: give all hosts the same config, data and packages'
            )
    if processes.is_first():
        names = ', '.join(f'{number} on {host["name"]}' for number, host in enumerate(hosts))
        print(f'{len(hosts)} hosts: {names}', file=sys.stderr)


def _facts(config: Config, plan: Plan) -> dict[str, Any]:
    """Collect everything that must be equal on all hosts, by the name that a user knows it by."""
    from stg_jax.data.shards import open_split  # loads TensorFlow, which one host may do without

    facts = {f'config.{key}': v for key, v in config.flat().items() if key not in _MAY_DIFFER}
    facts['manifest.json of the data'] = _digest(vars(plan.manifest))
    facts['the vocabulary'] = _digest(plan.vocab.words)
    for split in plan.manifest.splits:
        opened = open_split(config.data.dir, split)
        captions = read_captions(config.data.dir, split)
        facts[f'captions-{split}.jsonl of the data'] = _digest(captions)
        facts[f'the shards of split {split}'] = _digest(list(map(int, opened.lengths)))
    # Another version of XLA may compile a program with other collective operations, and hang.
    packages = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return facts | packages | {'Python': platform.python_version()}


def _digest(value: Any) -> str:
    data = json.dumps(value, sort_keys=True, default=list).encode()
    return hashlib.sha256(data).hexdigest()[:12]
