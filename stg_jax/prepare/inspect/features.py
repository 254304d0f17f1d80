"""Report what a feature file holds, which clips it covers, and how to pass it."""

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from stg_jax.datasets.base import Annotations
from stg_jax.datasets.clip_ids import FROM_ONE, fit, match_keys
from stg_jax.errors import UserError
from stg_jax.feature_files import bottom_up_tsv, hdf5
from stg_jax.feature_files.base import GRID, FrameSource, ObjectSource, without_unit_axes
from stg_jax.feature_files.numpy_folders import npy_header, npz_headers
from stg_jax.feature_files.objects import Fit, group_images
from stg_jax.feature_files.open import holds_objects, open_frames, open_grid, open_objects
from stg_jax.files import is_hidden, visible

_FIRST = 3  # entries that are shown
_SAMPLE = 20  # clips that are read; each can take a second from a network drive
# RMN stores InceptionResNetV2 (1536) and I3D (1024) side by side.
_RMN_WIDTH, _RMN_APPEARANCE = 2560, 1536
_OBJECT_NAME = re.compile(r'roi|obj|region|node', re.IGNORECASE)
_FORMS = {
    'vidK': re.compile(r'vid[0-9]+'),
    'videoN': re.compile(r'video[0-9]+'),
    'index0': re.compile(r'[0-9]+'),
}


def describe_features(
    path: str, found: str, annotations: Annotations | None, ids: str | None
) -> list[str]:
    """Describe a file or folder whose content `feature_files.detect` calls `found`.

    Raises:
      UserError: it is damaged.
    """
    stored = _entries(path, found)
    fits = fit(annotations, ids) if annotations else None
    # Nothing in most files says what they are for; shapes and names do, and the user decides.
    role = _role(path, found, fits)
    if role in ('boxes', 'frame_sizes'):
        return [f'{path}: HDF5', *stored, f'pass it with --objects as: --{role}={path}']
    try:
        source: FrameSource | ObjectSource
        if role == 'objects':
            source = open_objects(path, fit=fits)
        else:
            source = (open_grid if role == 'grid' else open_frames)(path)
    except UserError as error:
        # What is stored is still worth printing: it shows why the file was not understood.
        return [f'{path}: {found}', *stored, f'not readable as features: {error}']
    with contextlib.closing(source):
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
    """Describe which keys name which clips; without annotations, guess from their form."""
    if annotations is None:
        form = _form(keys)
        return [f'ids: look like {form}; give --annotations and --data_set to see which match']
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
    """Infer what a file is for: 'frames', 'grid', 'objects', 'boxes' or 'frame_sizes'."""
    if holds_objects(path):
        return 'objects'
    if found == 'npy folder':
        shape = npy_header(min(visible(Path(path).glob('*.npy'))))[0]
        return 'grid' if _is_grid(shape) else 'frames'
    if found != 'HDF5':
        return 'frames'
    with hdf5.open_file(path) as file:
        if hdf5.layout(file) != 'datasets':
            return 'frames'
        keys = hdf5.clip_keys(file)
        first = next(each for _, each in hdf5.some_entries(file) if isinstance(each, h5py.Dataset))
        if first.shape in ((2,), (3,)):
            return 'frame_sizes'
        if first.ndim == 2 and first.shape[1] == 4:
            return 'boxes'
        if _is_grid(first.shape):
            return 'grid'
        # Frames of a clip and objects of a frame have the same shape, (n, D): only names differ.
        named = _OBJECT_NAME.search(Path(path).name) or len(group_images(keys, fits)) < len(keys)
        return 'objects' if first.ndim == 2 and named else 'frames'


def _is_grid(shape: tuple[int, ...]) -> bool:
    return len(without_unit_axes(shape, GRID - 1)) == GRID


def _entries(path: str, found: str) -> list[str]:
    """Describe the first entries as they are stored."""
    if found == 'HDF5':
        with hdf5.open_file(path) as file:
            with hdf5.readable(path):
                lines = [_attributes(file)] if file.attrs else []
                keys = list(file)
            lines += [_stored(file, key) for key in keys[:_FIRST]]
            return [*lines, f'  ... {len(keys)} entries in all'] if len(keys) > _FIRST else lines
    if found == 'npy folder':
        files = sorted(visible(Path(path).glob('*.npy')))
        return [f'  {file.name}: {_npy(file)}' for file in files[:_FIRST]]
    if found == 'npz folder':
        names = [file.relative_to(path) for file in sorted(Path(path).rglob('*.npz'))]
        names = [name for name in names if not is_hidden(name)]
        return [f'  {name}: {_npz(Path(path) / name)}' for name in names[:_FIRST]]
    if found == 'npz':
        headers = npz_headers(Path(path))
        return [f'  {name}: {dtype} {shape}' for name, (shape, dtype) in headers.items()][:_FIRST]
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
        shape, dtype = npy_header(file)
    except UserError as error:
        return f'not readable ({error})'
    return f'{dtype} {shape}'


def _npz(file: Path) -> str:
    try:
        headers = npz_headers(file)
    except UserError as error:
        return f'not readable ({error})'
    return ', '.join(
        f'{name} {"pickle" if dtype.hasobject else dtype} {shape}'
        for name, (shape, dtype) in headers.items()
    )


def _sizes(source: FrameSource | ObjectSource) -> list[str]:
    """Describe width, steps and objects of a sample of clips from all over the file."""
    # Spread over the file: the last clips of a damaged copy are the ones that are missing.
    places = np.linspace(0, len(source.keys) - 1, min(_SAMPLE, len(source.keys))).astype(int)
    steps, objects, broken = [], [], []
    keys = list(source.keys)
    for key in (keys[i] for i in places):
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
    lines = [f'width: {source.width}', *(f'cells: {cells}' for cells in source.step[:-1])]
    for what, numbers in (('steps', steps), ('objects in a step', objects)):
        if numbers:
            lines.append(f'{what}: {_span(numbers)} (in {len(steps)} sampled clips)')
    if broken:
        lines.append(f'problem: {len(broken)} clips of {len(places)} cannot be read: {broken[0]}')
    return lines


def _flags(path: str, source: FrameSource | ObjectSource, role: str) -> str:
    if role in ('objects', 'grid'):
        return f'--{role}={path}'
    if source.width == _RMN_WIDTH:
        return (
            f'--appearance={path}:0-{_RMN_APPEARANCE} --motion={path}:{_RMN_APPEARANCE}-'
            f'{_RMN_WIDTH} (InceptionResNetV2 and I3D side by side, as in RMN)'
        )
    return f'--appearance={path} or --motion={path}, which of them the file does not say'


def _form(keys: Sequence[str]) -> str:
    for scheme, pattern in _FORMS.items():
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
