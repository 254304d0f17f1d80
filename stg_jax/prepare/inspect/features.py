"""Say what is in a file of features, whose clips these are and what to pass it as."""

import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from stg_jax.datasets import Annotations
from stg_jax.datasets.clip_ids import FROM_ONE, fit, match_keys
from stg_jax.errors import UserError
from stg_jax.feature_files import bottom_up_tsv, hdf5
from stg_jax.feature_files.base import FrameSource, ObjectSource
from stg_jax.feature_files.objects import Fit, group_images
from stg_jax.feature_files.open import holds_objects, open_frames, open_objects

_FIRST = 3  # entries that are shown
_SAMPLE = 20  # clips that are read
_RMN_WIDTH, _RMN_APPEARANCE = 2560, 1536
_OBJECT_NAME = re.compile(r'roi|obj|region|node', re.IGNORECASE)
# RuntimeError: a member needs a password, or a compression that is unknown here.
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError)
_LOOKS = {
    'vidK': re.compile(r'vid[0-9]+'),
    'videoN': re.compile(r'video[0-9]+'),
    'index0': re.compile(r'[0-9]+'),
}


def describe_features(
    path: str, found: str, annotations: Annotations | None, ids: str | None
) -> list[str]:
    """Return lines about a file or folder that `importers.content` calls `found`.

    Raises:
      UserError: it is damaged.
    """
    stored = _entries(path, found)
    fits = fit(annotations, ids) if annotations else None
    role = _role(path, found, fits)
    if role in ('boxes', 'frame_sizes'):
        return [f'{path}: HDF5', *stored, f'pass it with --objects as: --{role}={path}']
    try:
        source = open_objects(path, fit=fits) if role == 'objects' else open_frames(path)
    except UserError as error:
        return [f'{path}: {found}', *stored, f'not readable as features: {error}']
    with source:
        return [
            f'{path}: {source.family}',
            *stored,
            f'{len(source.keys)} clips: {_some(source.keys)}',
            *_sizes(source),
            *(f'note: {sentence}' for sentence in source.warnings),
            *describe_matches(source.keys, annotations, ids),
            f'pass it as: {_flags(path, source, role)}',
        ]


def describe_matches(
    keys: Sequence[str], annotations: Annotations | None, ids: str | None
) -> list[str]:
    """Return lines about which keys mean which clips; a guess from their looks without any."""
    if annotations is None:
        looks = _looks(keys)
        return [f'ids: look like {looks}; give --annotations and --data_set to see which match']
    try:
        mapping = match_keys(keys, annotations, ids)
    except UserError as error:
        return [f'ids: {error}']
    captioned = dict.fromkeys(annotations.clip_ids)
    without_key = [clip for clip in captioned if clip not in mapping.key_of]
    without_caption = [key for clip, key in mapping.key_of.items() if clip not in captioned]
    lines = [
        f'ids: {mapping.scheme}; {len(captioned) - len(without_key)} of {len(captioned)} '
        'captioned clips are here'
    ]
    for what, names in (
        ('captioned clips that are not here', without_key),
        ('keys of clips without captions', without_caption),
        ('keys that mean no clip', mapping.unmatched),
    ):
        if names:
            lines.append(f'{what}: {len(names)}: {_some(names)}')
    return [*lines, *(f'note: {sentence}' for sentence in mapping.warnings)]


def _role(path: str, found: str, fits: Fit | None) -> str:
    """Guess what a file is for: 'frames', 'objects', 'boxes' or 'frame_sizes'."""
    if holds_objects(path):
        return 'objects'
    if found != 'HDF5':
        return 'frames'
    with hdf5.open_file(path) as file:
        if hdf5.layout(file) != 'datasets':
            return 'frames'
        keys = hdf5.clip_keys(file)
        _, first = hdf5.first_entry(file)
        if first.shape in ((2,), (3,)):
            return 'frame_sizes'
        if first.ndim == 2 and first.shape[1] == 4:
            return 'boxes'
        # Frames of a clip and objects of a frame look alike, (n, D): only names tell.
        named = _OBJECT_NAME.search(Path(path).name) or len(group_images(keys, fits)) < len(keys)
        return 'objects' if first.ndim == 2 and named else 'frames'


def _entries(path: str, found: str) -> list[str]:
    """Return the first entries as they are stored."""
    if found == 'HDF5':
        with hdf5.open_file(path) as file:
            with hdf5.readable(path):
                lines = [_attributes(file)] if file.attrs else []
                keys = list(file)
            lines += [_stored(file, key) for key in keys[:_FIRST]]
            return [*lines, f'  ... {len(keys)} entries in all'] if len(keys) > _FIRST else lines
    if found == 'npy folder':
        files = sorted(Path(path).glob('*.npy'))
        return [f'  {file.name}: {_npy(file)}' for file in files[:_FIRST]]
    if found == 'npz folder':
        files = sorted(Path(path).rglob('*.npz'))
        return [f'  {file.relative_to(path)}: {_npz(file)}' for file in files[:_FIRST]]
    columns = bottom_up_tsv.first_row(path).items()
    return ['  first row: ' + ', '.join(f'{name} {value}' for name, value in columns)]


def _stored(file: h5py.File, key: str) -> str:
    try:
        with hdf5.readable(f'{file.filename}: {key}'):
            return f'  {key}: {_entry(file[key])}'
    except UserError as error:
        return f'  {error}'


def _entry(entry: h5py.Dataset | h5py.Group | h5py.Datatype) -> str:
    if isinstance(entry, h5py.Group):
        members = ', '.join(f'{name} {_entry(entry[name])}' for name in list(entry)[:8])
        return f'group of {members}{_attributes(entry)}'
    if isinstance(entry, h5py.Datatype):
        return 'a type without values'
    return f'{entry.dtype} {entry.shape}{_attributes(entry)}'


def _attributes(entry: h5py.HLObject) -> str:
    values = ', '.join(f'{name} = {value!s:.40}' for name, value in entry.attrs.items())
    return f'; attributes {values}' if values else ''


def _npy(file: Path) -> str:
    try:
        # Mapped: only the header is read.
        array = np.load(file, mmap_mode='r', allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        return f'not readable ({error})'
    return f'{array.dtype} {array.shape}'


def _npz(file: Path) -> str:
    try:
        with zipfile.ZipFile(file) as archive:
            return ', '.join(_member(archive, name) for name in archive.namelist())
    except _ZIP_ERRORS as error:
        return f'not readable ({error})'


def _member(archive: zipfile.ZipFile, name: str) -> str:
    with archive.open(name) as member:
        old = np.lib.format.read_magic(member) == (1, 0)
        # Only headers are read, in which no pickle can hide.
        read_header = (
            np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read_header(member)
    return f'{name.removesuffix(".npy")} {"pickle" if dtype.hasobject else dtype} {shape}'


def _sizes(source: FrameSource | ObjectSource) -> list[str]:
    """Return width, steps and objects, seen in some clips of the whole file."""
    places = np.linspace(0, len(source.keys) - 1, min(_SAMPLE, len(source.keys))).astype(int)
    steps, objects, broken = [], [], []
    for key in (source.keys[i] for i in places):
        try:
            values = source.read(key)
        except UserError as error:
            broken.append(str(error))
            continue
        if isinstance(values, np.ndarray):
            steps.append(len(values))
        else:
            steps.append(len(values.mask))
            objects += values.mask.sum(axis=1).tolist()
    lines = [f'width: {source.width}']
    for what, numbers in (('steps', steps), ('objects in a step', objects)):
        if numbers:
            lines.append(f'{what}: {_span(numbers)} (in {len(steps)} clips that were looked at)')
    if broken:
        lines.append(f'problem: {len(broken)} clips of {len(places)} cannot be read: {broken[0]}')
    return lines


def _flags(path: str, source: FrameSource | ObjectSource, role: str) -> str:
    if role == 'objects':
        return f'--objects={path}'
    if source.width == _RMN_WIDTH:
        return (
            f'--appearance={path}:0-{_RMN_APPEARANCE} --motion={path}:{_RMN_APPEARANCE}-'
            f'{_RMN_WIDTH} (InceptionResNetV2 and I3D side by side, as in RMN)'
        )
    return f'--appearance={path} or --motion={path}, which of them the file does not say'


def _looks(keys: Sequence[str]) -> str:
    for scheme, pattern in _LOOKS.items():
        if all(map(pattern.fullmatch, keys)):
            if scheme in FROM_ONE and all(int(key.removeprefix('video')) for key in keys):
                return f'{scheme} or {FROM_ONE[scheme]}'
            return scheme
    return 'name'


def _some(names: Sequence[str]) -> str:
    shown = ', '.join(map(repr, names[:_FIRST]))
    return f'{shown}, ...' if len(names) > _FIRST else shown


def _span(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f'{low} to {high}'
