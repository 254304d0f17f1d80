"""What a run needs besides its config, checked before anything is written, on all hosts alike."""

import dataclasses
import hashlib
import importlib.metadata
import itertools
import json
import platform
import sys
from typing import Any

from stg_jax.config import Config
from stg_jax.data.batches import steps_per_epoch
from stg_jax.data.captions import read_captions
from stg_jax.data.manifest import Manifest, check_manifest, unstated
from stg_jax.data.vocab import Vocabulary
from stg_jax.errors import UserError
from stg_jax.model.network import CaptioningModel
from stg_jax.parallel import processes, sharding
from stg_jax.run.build import build_model

# Packages that decide which program runs and which clips it sees.
_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy', 'tensorflow')
_MAY_DIFFER = ('data.dir',)  # hosts may mount the same data at different paths


@dataclasses.dataclass(frozen=True)
class Plan:
    """The parts of a run that follow from its config, data and devices.

    Attributes:
      manifest: of the data.
      vocab: words of the train captions.
      mesh: all devices.
      model: the network.
      clips_per_batch: of all hosts together.
      num_parts: of this host's rows of a batch, one for each device and micro-batch.
      epoch_steps: optimizer steps of an epoch.
    """

    manifest: Manifest
    vocab: Vocabulary
    mesh: sharding.Mesh
    model: CaptioningModel
    clips_per_batch: int
    num_parts: int
    epoch_steps: int


def fill_in_widths(config: Config) -> Config:
    """State the widths of features that the config leaves to its data folder.

    Raises:
      UserError: the config names no data folder, or the folder has no manifest.
    """
    manifest = _manifest(config)
    widths = unstated(manifest, config.data, reads_grid=config.model.reads_grid)
    return config.changed(**{f'data__{key}': value for key, value in widths.items()})


def _manifest(config: Config) -> Manifest:
    if not config.data.dir:
        raise UserError('no data: name a folder that prepare.py wrote, --config.data.dir=DATA_DIR')
    return Manifest.load(config.data.dir)


def make_plan(config: Config) -> Plan:
    """Derive the parts of a run, and check that config, data and devices fit together.

    Raises:
      UserError: they do not.
    """
    manifest = _manifest(config)
    check_manifest(manifest, config.data)
    mesh = sharding.data_mesh()
    # Only of the train split: words of other splits would get vectors that are never trained.
    captions = read_captions(config.data.dir, 'train')
    vocab = Vocabulary.build(itertools.chain(*captions.values()), config.data.min_count)
    clips_per_batch = _clips_per_batch(config, mesh.size)
    return Plan(
        manifest=manifest,
        vocab=vocab,
        mesh=mesh,
        model=build_model(config, manifest, vocab),
        clips_per_batch=clips_per_batch,
        num_parts=mesh.size // processes.num_hosts() * config.train.accumulate,
        epoch_steps=steps_per_epoch(manifest, config.data, clips_per_batch, processes.num_hosts()),
    )


def _clips_per_batch(config: Config, num_devices: int) -> int:
    # Whole clips in every part: all captions of a clip share its encoding on one device.
    per_clip, parts = config.data.captions_per_clip, num_devices * config.train.accumulate
    if config.train.batch_size % (per_clip * parts):
        raise UserError(
            f'config.train.batch_size = {config.train.batch_size} captions cannot be split into '
            f'clips of captions_per_clip = {per_clip} over {num_devices} device(s) and '
            f'accumulate = {config.train.accumulate}: make it a multiple of {per_clip * parts}'
        )
    return config.train.batch_size // per_clip


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
