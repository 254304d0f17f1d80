"""The files of a run folder, and the rule that one folder belongs to one config.

RUN/config.json      the config, whole
RUN/manifest.json    what the features are and which extractor made them
RUN/vocab.txt        the words, one a line
RUN/checkpoints/     see stg_jax/run/checkpoint.py
RUN/metrics.jsonl    one object per logged step and per validation
RUN/eval/SPLIT/      predictions and scores
"""

import dataclasses
from pathlib import Path

from etils import epath

from stg_jax.config import Config, flat, nested, parse_config
from stg_jax.data.manifest import Manifest
from stg_jax.data.vocab import Vocabulary
from stg_jax.errors import UserError
from stg_jax.files import read_json, write_json

# Keys that may change when a run goes on: they alter no step that was taken before.
_MAY_CHANGE = (
    'data.dir',
    'data.cache',
    'train.steps_per_execution',
    'train.epochs',
    'train.patience',
    'train.checkpoint_steps',
    'train.keep_best',
    'train.log_steps',
    'decode.',
    'profile.',
)

# Keys that older versions of the code did not have, with the value by which these versions trained,
# and keys that only they had, which never changed a network.
_ADDED = {'train.steps_per_execution': 1}
_REMOVED = {'data.skip_damaged'}


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """A run folder and what describes the run."""

    path: epath.Path
    config: Config
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
            _read_config(path / 'config.json'),
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
            write_json(self.path / 'config.json', self.config.tree())
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
        ours, theirs = self.config.flat(), stored.config.flat()
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


def _read_config(path: epath.Path) -> Config:
    """Read config.json, which an older version of the code may have written."""
    tree = read_json(path)
    if not isinstance(tree, dict):
        raise UserError(f'{path} is not the config of a run: it holds no object')
    given = flat(tree)
    values = _ADDED | {key: given[key] for key in given if key not in _REMOVED}
    try:
        return parse_config(nested(values))
    except UserError as error:
        raise UserError(
            f'{path} does not fit this version of the code ({error}): '
            'use the version that trained the run'
        ) from None
