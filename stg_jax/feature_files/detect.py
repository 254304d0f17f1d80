"""What a file or folder is, told from its content and never from its name."""

import gzip
import os
import zipfile
from pathlib import Path

from stg_jax.errors import UserError

_CONVERT_TORCH = 'convert it once to .npy files, by torch.load with weights_only=True'
_PICKLED = {
    'torch': f'is a PyTorch file of pickles, which can run programs: {_CONVERT_TORCH}',
    'pickle folder': f'holds pickles, which can run programs: {_CONVERT_TORCH}',
    'pickle': (
        'is a pickle, which can run programs: if you trust it, let the program that wrote it save '
        'one .npy per clip with numpy.save'
    ),
}
_HDF5 = b'\x89HDF\r\n\x1a\n'
_TSV_COLUMNS = (6, 10)  # of bottom-up-attention files: the original ones, and LXMERT's


def content(path: str | os.PathLike[str]) -> str:
    """Return what `path` holds.

    Returns:
      'npy folder', 'npz folder', 'HDF5 folder', 'pickle folder', 'data folder', 'folder', 'HDF5',
      'npy', 'npz', 'torch', 'pickle', 'TSV', 'empty' or 'unknown'.

    Raises:
      UserError: it does not exist.
    """
    path = Path(path)
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise UserError(f'the file {path} does not exist')
    start = _start(path)
    if start.startswith(_HDF5):
        return 'HDF5'
    if start.startswith(b'\x93NUMPY'):
        return 'npy'
    if start.startswith(b'PK\x03\x04'):
        return _archive(path)
    # Protocols 2 to 5; older ones are text and rare.
    if start[:1] == b'\x80' and start[1:2] in (b'\x02', b'\x03', b'\x04', b'\x05'):
        return 'pickle'
    if not start:
        return 'empty'
    return 'TSV' if _is_tsv(path, start) else 'unknown'


def refuse_other(path: str | os.PathLike[str], found: str) -> UserError:
    """Return the sentence about something that holds no features in a form that is read."""
    if found in _PICKLED:
        return UserError(f'{path} {_PICKLED[found]} (docs/data.md has the lines)')
    if found == 'npy':
        return UserError(f'{path} is one array: name the folder that holds one .npy per clip')
    if found == 'npz':
        return UserError(f'{path} is one archive: name the folder that holds the .npz files')
    if found == 'HDF5 folder':
        number = sum(map(_is_hdf5, Path(path).iterdir()))
        return UserError(
            f'{path} holds {number} HDF5 files: inspect each, and pass one, or a file per split '
            'with * in the name'
        )
    if found == 'folder':
        return UserError(f'{path} holds neither .npy nor .npz files: name the folder that does')
    if found == 'data folder':
        return UserError(f'{path} is a data folder already: train on it')
    if found == 'empty':
        return UserError(f'{path} is empty: copy it again')
    return UserError(
        f'{path} is of no known layout: expected HDF5, a folder of .npy or .npz, or a '
        'bottom-up-attention TSV'
    )


def _folder(path: Path) -> str:
    if (path / 'manifest.json').is_file():
        return 'data folder'
    files = list(path.iterdir())
    endings = {file.suffix for file in files}
    for kind in ('npy', 'npz'):
        if f'.{kind}' in endings:
            return f'{kind} folder'
    if any(map(_is_hdf5, files)):
        return 'HDF5 folder'
    if endings & {'.pt', '.pth', '.pkl', '.pickle'}:
        return 'pickle folder'
    # Images of a clip may lie in a folder of their own.
    return 'npz folder' if any(path.glob('*/*.npz')) else 'folder'


def _is_hdf5(path: Path) -> bool:
    return path.is_file() and _start(path).startswith(_HDF5)


def _start(path: Path) -> bytes:
    with path.open('rb') as file:
        return file.read(16)


def _archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise UserError(f'{path} is a damaged archive ({error}): copy it again') from None
    if any(name.endswith('data.pkl') for name in names):
        return 'torch'
    return 'npz' if names and all(name.endswith('.npy') for name in names) else 'unknown'


def _is_tsv(path: Path, start: bytes) -> bool:
    open_it = gzip.open if start.startswith(b'\x1f\x8b') else open
    try:
        with open_it(path, 'rb') as file:
            # A row may have a megabyte, and a file without rows gigabytes in its only line.
            first = file.readline(1 << 26)
    except (OSError, EOFError) as error:
        raise UserError(f'{path} is a damaged gzip file ({error}): copy it again') from None
    return first.count(b'\t') + 1 in _TSV_COLUMNS
