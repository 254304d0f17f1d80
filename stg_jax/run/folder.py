"""The files of a run folder, and the rule that one folder belongs to one config.

RUN/config.json      the config, whole
RUN/manifest.json    what the features are and which extractor made them
RUN/vocab.txt        the words, one a line
RUN/checkpoints/     see stg_jax/run/checkpoint.py
RUN/metrics.jsonl    one object per logged step and per validation
RUN/eval/SPLIT/      predictions and scores
"""

import dataclasses
import json
from pathlib import Path

from etils import epath
from ml_collections import ConfigDict

from stg_jax.data.manifest import Manifest
from stg_jax.data.vocab import Vocabulary
from stg_jax.errors import UserError
from stg_jax.files import read_json, write_json

# Keys that may change when a run goes on: they alter no step that was taken before.
_MAY_CHANGE = (
    'data.dir',
    'data.cache',
    'data.skip_damaged',
    'train.steps_per_execution',
    'train.epochs',
    'train.patience',
    'train.checkpoint_steps',
    'train.keep_best',
    'train.log_steps',
    'decode.',
    'profile.',
)


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """A run folder and what describes the run."""

    path: epath.Path
    config: ConfigDict
    manifest: Manifest
    vocab: Vocabulary

    @classmethod
    def open(cls, path: str | Path) -> 'RunFolder':
        """Read what describes a run.

        Raises:
          UserError: the folder holds no run, or a file of it cannot be read.
        """
        path = epath.Path(path)
        if not (path / 'config.json').exists():
            raise UserError(f'{path} holds no run: it has no config.json (train.py writes one)')
        return cls(
            path,
            ConfigDict(read_json(path / 'config.json')).lock(),
            Manifest.load(path / 'manifest.json'),
            Vocabulary.load(path / 'vocab.txt'),
        )

    def claim(self) -> None:
        """Write what describes a run, or check that the folder already belongs to this config.

        Raises:
          UserError: the folder holds a run of another config or another vocabulary, or cannot be
            written.
        """
        if (self.path / 'config.json').exists():
            self._refuse_another(self.open(self.path))
        try:
            self.manifest.save(self.path / 'manifest.json')
            self.vocab.save(self.path / 'vocab.txt')
            # Last, so that a folder with a config is complete.
            write_json(self.path / 'config.json', json.loads(self.config.to_json()))
        except OSError as error:
            raise UserError(
                f'{self.path} cannot be written ({error.strerror or error}): '
                'choose another --workdir'
            ) from None

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

    def _refuse_another(self, stored: 'RunFolder') -> None:
        ours, theirs = _flat(self.config.to_dict()), _flat(stored.config.to_dict())
        changed = [
            f'{key} (there {theirs.get(key)!r}, now {ours.get(key)!r})'
            for key in sorted(ours.keys() | theirs.keys())
            if ours.get(key) != theirs.get(key) and not key.startswith(_MAY_CHANGE)
        ]
        if changed:
            raise UserError(
                f'{self.path} belongs to a run of another config; it differs in '
                f'{", ".join(changed)}: choose another --workdir or the same config'
            )
        if self.vocab.words != stored.vocab.words:
            raise UserError(
                f'{self.path} belongs to a run with another vocabulary: '
                'its data folder has changed since; choose another --workdir'
            )


def _flat(tree: dict, prefix: str = '') -> dict:
    """Return {'a.b': value} for nested dicts; tuples and lists count as equal."""
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f'{prefix}{key}.')
        else:
            flat[f'{prefix}{key}'] = list(value) if isinstance(value, tuple) else value
    return flat
