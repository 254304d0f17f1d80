"""What a data folder holds, in one small JSON file, and whether a config fits it."""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from etils import epath

from stg_jax import files
from stg_jax.config import DataConfig
from stg_jax.errors import UserError

NAME = 'manifest.json'
KINDS = ('appearance', 'motion', 'object')
OPTIONAL_KINDS = ('grid',)


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Describe a data folder; saved as DATA_DIR/manifest.json and copied into every run.

    Attributes:
      data_set: name of the data set.
      frames: T, frames of every clip.
      objects: N, the most objects a frame can hold.
      widths: channels of 'appearance', 'motion' and 'object' features, and of 'grid' if stored.
      scale: standard deviation of the real entries of each kind over the train split, > 0.
      extractor: name and settings of what computed the features.
      splits: for each split the number of 'clips' and 'captions'.
      missing: for each kind the ids of clips without such features (they hold zeros).
      sources: the files the folder was made from.
      cells: G, cells of the grid of a frame; 0 where no grid is stored.
    """

    data_set: str
    frames: int
    objects: int
    widths: Mapping[str, int]
    scale: Mapping[str, float]
    extractor: Mapping[str, Any]
    splits: Mapping[str, Mapping[str, int]]
    missing: Mapping[str, Sequence[str]]
    sources: Mapping[str, Any]
    cells: int = 0

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of features that the folder holds."""
        return (*KINDS, *(kind for kind in OPTIONAL_KINDS if kind in self.widths))

    @property
    def clip_bytes(self) -> dict[str, int]:
        """Bytes of each kind of features in the record of a clip, stored as float16."""
        rows = {'object': self.objects, 'grid': self.cells}
        return {
            kind: 2 * self.frames * rows.get(kind, 1) * self.widths[kind] for kind in self.kinds
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the manifest as JSON."""
        files.write_json(path, dataclasses.asdict(self))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> 'Manifest':
        """Read a manifest from its JSON file or from the data folder that holds it.

        Raises:
          UserError: it is missing, lacks an entry, or one is not what it should be.
        """
        path = epath.Path(path)
        path = path / NAME if path.is_dir() else path
        if not path.exists():
            raise UserError(f'{path} does not exist: write a data folder with launch/prepare.py')
        entries: Any = files.read_json(path)
        fields = {field.name for field in dataclasses.fields(cls)}
        if isinstance(entries, dict):
            entries = {'cells': 0} | entries  # folders from before grids
        # Any other JSON file of that name, such as one of a web application.
        if not isinstance(entries, dict) or set(entries) != fields:
            raise UserError(f'{path} is not the manifest of a data folder: prepare the data again')
        for name, (is_sound, expected) in _ENTRIES.items():
            if not is_sound(entries[name]):
                raise UserError(
                    f'{path} is damaged: {name} must be {expected}, found '
                    f'{str(entries[name])[:60]!r}: prepare the data again'
                )
        return cls(**entries)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0  # not bool, which is an int too


def _is_scale(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < float('inf')


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_counts(value: Any) -> bool:
    return _is_object(value) and all(_is_count(value.get(key)) for key in ('clips', 'captions'))


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _of_each(is_sound: Callable[[Any], bool], keys: Sequence[str] = ()) -> Callable[[Any], bool]:
    """Make a check of all values of an object, which must have `keys`."""
    return lambda value: (
        _is_object(value) and set(keys) <= set(value) and all(map(is_sound, value.values()))
    )


# A check of each entry, and what it must be in words. A wrong type would otherwise surface as a
# traceback in the middle of a training.
_ENTRIES = {
    'data_set': (lambda value: isinstance(value, str), 'text'),
    'frames': (_is_count, 'a number'),
    'objects': (_is_count, 'a number'),
    'widths': (_of_each(_is_count, KINDS), f'numbers for {", ".join(KINDS)}'),
    'scale': (_of_each(_is_scale, KINDS), f'numbers above 0 for {", ".join(KINDS)}'),
    'extractor': (_is_object, 'an object'),
    'splits': (_of_each(_is_counts), 'clips and captions for each split'),
    'missing': (_of_each(_is_names), 'lists of clips'),
    'sources': (_is_object, 'an object'),
    'cells': (_is_count, 'a number'),
}


def overrides(manifest: Manifest, data_config: DataConfig) -> dict[str, int]:
    """Find the entries of `config.data` that must change to read the folder, with new values."""

    def is_stated(kind: str) -> bool:
        return getattr(data_config, f'{kind}_dim') > 0

    stored = {'frames': manifest.frames}
    stored |= {f'{kind}_dim': manifest.widths[kind] for kind in KINDS if is_stated(kind)}
    # Fewer objects than are stored are a choice: the best ones are read.
    if data_config.objects > manifest.objects:
        stored['objects'] = manifest.objects
    if data_config.grid_cells:
        stored |= {'grid_cells': manifest.cells, 'grid_dim': manifest.widths.get('grid', 0)}
    return {key: value for key, value in stored.items() if getattr(data_config, key) != value}


def unstated(manifest: Manifest, data_config: DataConfig, *, reads_grid: bool) -> dict[str, int]:
    """Find the widths that `config.data` leaves to the data folder by a 0, with their values."""
    sizes = {f'{kind}_dim': manifest.widths[kind] for kind in KINDS}
    if reads_grid and not data_config.grid_cells:
        sizes |= {'grid_cells': manifest.cells, 'grid_dim': manifest.widths.get('grid', 0)}
    return {key: value for key, value in sizes.items() if not getattr(data_config, key)}


def as_flags(changes: Mapping[str, int]) -> str:
    """Write changes of `config.data` as flags of a command line."""
    return ' '.join(f'--config.data.{key}={value}' for key, value in changes.items())


def check_manifest(manifest: Manifest, data_config: DataConfig) -> None:
    """Check that the config asks for what the data folder holds.

    Raises:
      UserError: frames or widths differ, or more objects are asked for than stored; the sentence
        names every flag to change.
    """
    wrong = overrides(manifest, data_config)
    if wrong:
        asked = ', '.join(f'{key} = {getattr(data_config, key)}' for key in wrong)
        raise UserError(
            f'the config asks for {asked}, which the {manifest.data_set} data does not hold: '
            f'pass {as_flags(wrong)}'
        )
