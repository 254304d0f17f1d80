"""The files of a run folder, and the rule that one folder belongs to one config.

RUN/config.json      the config, whole
RUN/manifest.json    what the features are and which extractor made them
RUN/vocab.txt        the words, one a line
RUN/digests.json     hashes of the config, the manifest and the vocabulary
RUN/checkpoints/     see stg_jax/run/checkpoint.py; an exported model has model.safetensors instead
RUN/metrics.jsonl    one object per logged step and per validation
RUN/eval/SPLIT/      predictions and scores
RUN/training.lock    held by the one process that trains in the folder
"""

import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from absl import logging
from etils import epath

from stg_jax.config import Config, flat, nested, parse_config
from stg_jax.data.manifest import Manifest, check_manifest
from stg_jax.data.vocab import Vocabulary
from stg_jax.errors import UserError
from stg_jax.files import read_json, write_json
from stg_jax.run import hub

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_CONFIG, _DIGESTS, _LOCK = 'config.json', 'digests.json', 'training.lock'
_MANIFEST, _VOCAB = 'manifest.json', 'vocab.txt'

# Keys that may change when a run resumes: they alter no step that was taken before.
_MAY_CHANGE = (
    'data.dir',
    'data.cache',
    'train.steps_per_execution',
    'train.epochs',
    'train.patience',
    'train.checkpoint_steps',
    'train.keep_best',
    'train.log_steps',
    'train.track',
    'decode.',
    'profile.',
)

# Keys that older versions of the code did not have, with the value by which these versions trained,
# and keys that only they had, which never changed a network.
_ADDED = {
    'train.steps_per_execution': 1,
    'data.grid_cells': 0,
    'data.grid_dim': 0,
    'toy.seed': 0,
    'toy.distractors': 0,
    'toy.captions': 6,
    'toy.held_out': 'triples',
    'toy.detector_dropout': 0.0,
    'toy.detector_jitter': 0.0,
    'model.object_memory': 'mean',
    'model.scene_tokens': 'frames',
    'model.grid_frames': 1,
    'model.grid_poolings': 1,
    'optim.decay': 'none',
    'optim.weight_decay': 0.0,
    'train.init_from': '',
    'train.objective': 'xe',
    'train.select': 'best',
    'train.track': 'tensorboard',
    'scst.samples': 5,
    'scst.xe_weight': 0.1,
    'optim.decay_rate': 0.9,
    'train.ema': 0.0,
    'model.attention_dropout': 0.0,
    'model.token_dropout': 0.0,
    'model.box_embedding': False,
    'loss.r_drop': 0.0,
    'loss.consensus': 0.0,
    'data.object_dropout': 0.0,
    'data.feature_dropout': 0.0,
    'data.feature_noise': 0.0,
    'data.frame_jitter': 0,
}
_REMOVED = {'data.skip_damaged'}


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """A run folder and what describes the run."""

    path: epath.Path
    config: Config
    manifest: Manifest
    vocab: Vocabulary

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> 'RunFolder':
        """Read what describes a run, or an exported model.

        Args:
          path: the folder, or hf://USER/NAME of a model on the hub, which is downloaded.

        Raises:
          UserError: the folder holds no run, or a file of it is damaged or of another version.
        """
        if str(path).startswith(hub.PREFIX):
            path = hub.download(str(path))
        folder = epath.Path(path)
        config = _read_config(folder)
        manifest = Manifest.load(folder / _MANIFEST)
        vocab = Vocabulary.load(folder / _VOCAB)
        # A flipped bit in a word or a scale would load, and change every caption a little.
        recorded = _recorded_digests(folder)
        for name, digest in _digests(folder, read_json(folder / _CONFIG)).items():
            if recorded.get(name, digest) != digest:
                raise UserError(
                    f'{folder / name} is damaged: it is not what training wrote; copy the run '
                    'again, or start its training command once more, which writes the file anew'
                )
        return cls(folder, config, manifest, vocab)

    def reading(self, data_dir: str | os.PathLike[str]) -> 'RunFolder':
        """Describe the same run with another data folder, whose features are of the same shapes.

        Raises:
          UserError: the folder cannot be read, or holds other features.
        """
        manifest = Manifest.load(data_dir)
        data = dataclasses.replace(self.config.data, dir=str(data_dir))
        check_manifest(manifest, data)
        config = dataclasses.replace(self.config, data=data)
        return dataclasses.replace(self, config=config, manifest=manifest)

    def is_claimed(self) -> bool:
        """Whether the folder belongs to a run already."""
        return (self.path / _CONFIG).exists()

    def claim(self) -> None:
        """Write what describes a run, or check that the folder already belongs to this config.

        Raises:
          UserError: the folder holds a run of another config or another vocabulary, or cannot be
            written.
        """
        if self.is_claimed():
            self._refuse_another_config()
            self._refuse_another_vocabulary()
        try:
            self.manifest.save(self.path / _MANIFEST)
            self.vocab.save(self.path / _VOCAB)
            config = self.config.tree()
            write_json(self.path / _DIGESTS, _digests(self.path, config))
            # Last, so that a folder with a config is complete.
            write_json(self.path / _CONFIG, config)
        except OSError as error:
            raise _cannot_write(self.path, error) from None

    @property
    def checkpoints(self) -> epath.Path:
        """Folder of the saved steps."""
        return self.path / 'checkpoints'

    @property
    def metrics(self) -> epath.Path:
        """File of logged losses and validation scores."""
        return self.path / 'metrics.jsonl'

    def evaluation(self, split: str) -> epath.Path:
        """Folder of the predictions and scores of a split."""
        return self.path / 'eval' / split

    def _refuse_another_config(self) -> None:
        ours, theirs = self.config.flat(), _read_config(self.path).flat()
        changed = [
            f'{key} (there {theirs[key]!r}, now {ours[key]!r})'
            for key in sorted(ours)
            if ours[key] != theirs[key] and not key.startswith(_MAY_CHANGE)
        ]
        if changed:
            raise UserError(
                f'{self.path} belongs to a run of another config; it differs in '
                f'{", ".join(changed)}: choose another --workdir or the same config'
            )

    def _refuse_another_vocabulary(self) -> None:
        # By the digest: a damaged vocab.txt of this very run is written anew.
        stored = _recorded_digests(self.path).get(_VOCAB)
        if stored is None:
            stored = _digest(Vocabulary.load(self.path / _VOCAB).text.encode())
        if stored != _digest(self.vocab.text.encode()):
            raise UserError(
                f'{self.path} belongs to a run with another vocabulary: '
                'its data folder has changed since; choose another --workdir'
            )


def _read_config(folder: epath.Path) -> Config:
    """Read config.json, which another version of the code may have written."""
    path = folder / _CONFIG
    if not path.exists():
        raise UserError(f'{folder} holds no run: it has no config.json (train.py writes one)')
    tree = read_json(path)
    if not isinstance(tree, dict):
        raise UserError(f'{path} is damaged: it is not a JSON object; copy the run again')
    given = flat(tree)
    values = _ADDED | {key: given[key] for key in given if key not in _REMOVED}
    try:
        return parse_config(nested(values))
    except UserError as error:
        raise UserError(
            f'{path} does not fit this version of the code ({error}): use the version that '
            'trained the run, or copy the run again if the file is damaged'
        ) from None


def _digests(folder: epath.Path, config: Mapping[str, Any]) -> dict[str, str]:
    """Compute the digests of a config and of the files beside it."""
    # Values and not bytes, without the place of the data: people move it and edit the file.
    values = {key: value for key, value in flat(config).items() if key != 'data.dir'}
    return {
        _CONFIG: _digest(json.dumps(values, sort_keys=True).encode()),
        **{name: _digest((folder / name).read_bytes()) for name in (_MANIFEST, _VOCAB)},
    }


def _recorded_digests(folder: epath.Path) -> dict[str, str]:
    """Read the digests of a run; runs of older versions have none."""
    path = folder / _DIGESTS
    if not path.exists():
        return {}
    recorded = read_json(path)
    if not isinstance(recorded, dict):
        raise UserError(f'{path} is damaged: it is not a JSON object; copy the run again')
    return recorded


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextlib.contextmanager
def lock_run(folder: epath.Path) -> Iterator[None]:
    """Hold a run folder for this process; created if need be.

    The operating system gives up the lock of a process that ends, however it ends, so a killed run
    leaves none behind. Folders in buckets cannot be locked.

    Raises:
      UserError: another process holds the folder, or it cannot be written.
    """
    if fcntl is None or '://' in os.fspath(folder):
        yield
        return
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        descriptor = os.open(Path(folder, _LOCK), os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise _cannot_write(folder, error) from None
    # The file stays when the lock is given up. Removing it would race with a process that has
    # opened it and is about to lock it.
    with os.fdopen(descriptor, 'r+', encoding='utf-8') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f'{folder} is in use: {_holder(file)} trains in it; wait until it ends, stop it, '
                'or choose another --workdir'
            ) from None
        except OSError as error:
            # Some network file systems have no locks; a single training is safe there.
            logging.warning('%s cannot be locked: %s', folder, error.strerror)
        _sign(file)
        yield


def _cannot_write(folder: epath.Path, error: OSError) -> UserError:
    """Build the error for a run folder that cannot be written."""
    return UserError(
        f'{folder} cannot be written ({error.strerror or error}): choose another --workdir'
    )


def _sign(file: IO[str]) -> None:
    """Write down which process holds the lock."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
    file.truncate(0)
    file.write(json.dumps({'pid': os.getpid(), 'host': platform.node(), 'since': now}) + '\n')
    file.flush()


def _holder(file: IO[str]) -> str:
    """Name the process that holds the lock, as far as it has written down who it is."""
    file.seek(0)
    try:
        return 'process {pid} on {host} (since {since})'.format(**json.loads(file.read()))
    except (ValueError, TypeError, KeyError):
        return 'another process'
