"""What a file or folder is, found from its content and never from its name."""

import gzip
import os
import zipfile
from pathlib import Path

import h5py

from stg_jax import files
from stg_jax.errors import UserError, first_line

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
_PICKLE_PROTOCOLS = (b'\x80\x02', b'\x80\x03', b'\x80\x04', b'\x80\x05')  # older ones are text
NPY = b'\x93NUMPY'
_ZIP = b'PK\x03\x04'
GZIP = b'\x1f\x8b'
# Columns of bottom-up-attention files, the original ones and LXMERT's: those that are numbers.
TSV_NUMBERS = {6: (1, 2, 3), 10: (1, 2, 7)}


def content(path: str | os.PathLike[str]) -> str:
    """Recognize what `path` holds.

    Returns:
      'npy folder', 'npz folder', 'HDF5 folder', 'pickle folder', 'data folder', 'folder', 'HDF5',
      'npy', 'npz', 'torch', 'pickle', 'TSV', 'empty' or 'unknown'.

    Raises:
      UserError: it does not exist or cannot be opened.
    """
    path = Path(path)
    try:
        if path.is_dir():
            return _folder(path)
        if not path.is_file():
            raise UserError(f'the file {path} does not exist')
        return _file(path)
    except OSError as error:  # no permission, a name too long, a drive that was unplugged
        raise UserError(f'{path} cannot be opened ({error.strerror or error})') from None


def _file(path: Path) -> str:
    # Never from the name: people call HDF5 files .h5, .hdf5, .hdf and .mat, and archives .npy.
    start = _start(path)
    found = kind_of(start)
    if found == 'zip':
        return _archive(path)
    # The signature of HDF5 may follow a block of the user's, as in files of MATLAB.
    if found == 'unknown' and h5py.is_hdf5(path):
        return 'HDF5'
    return 'TSV' if found == 'unknown' and _is_tsv(path, start) else found


def kind_of(start: bytes) -> str:
    """Recognize a file from its first bytes: 'HDF5', 'npy', 'zip', 'pickle', 'empty', 'unknown'."""
    for magic, found in ((_HDF5, 'HDF5'), (NPY, 'npy'), (_ZIP, 'zip')):
        if start.startswith(magic):
            return found
    if start.startswith(_PICKLE_PROTOCOLS):
        return 'pickle'
    return 'unknown' if start else 'empty'


def refuse_other(path: str | os.PathLike[str], found: str) -> UserError:
    """Say why something that holds no features in a form that is read is refused."""
    if found in _PICKLED:
        return UserError(f'{path} {_PICKLED[found]} (docs/data.md has the lines)')
    if found == 'npy':
        return UserError(f'{path} is one array: name the folder that holds one .npy per clip')
    if found == 'HDF5 folder':
        number = sum(map(_is_hdf5, files.visible(Path(path).iterdir())))
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
    return UserError(f'{path} {_unknown(_start(Path(path)))}')


def _unknown(start: bytes) -> str:
    """Describe a file that is none of the known layouts."""
    if start.startswith(b'MATLAB'):  # before 7.3, which is HDF5
        return 'is a MATLAB file of an old version: save it again with -v7.3, or as .npy files'
    return files.not_data(start) or (
        'is of no known layout: expected HDF5, a folder of .npy or .npz, or a '
        'bottom-up-attention TSV'
    )


def wrong_array(path: str | os.PathLike[str], start: bytes) -> UserError:
    """Say what a file is that is called like an array of numbers but begins as something else."""
    # The first bytes of a page or a pointer of Git LFS are text, which numpy calls a pickle: its
    # advice, allow_pickle=True, would run whatever somebody put there.
    found = kind_of(start)
    if found in ('pickle', 'empty'):
        return refuse_other(path, found)
    if found == 'zip':
        return UserError(f'{path} is an archive, not one array: call it .npz if it holds arrays')
    reason = files.not_data(start) or f'is no array of numbers (it begins with {start[:8]!r})'
    return UserError(f'{path} {reason}: copy or convert it again')


def _folder(path: Path) -> str:
    if (path / 'manifest.json').is_file():
        return 'data folder'
    found = list(files.visible(path.iterdir()))
    endings = {file.suffix for file in found}
    # Folders are the one exception, as opening thousands of files to look at them would take long.
    for kind in ('npy', 'npz'):
        if f'.{kind}' in endings:
            return f'{kind} folder'
    if any(map(_is_hdf5, found)):
        return 'HDF5 folder'
    if endings & {'.pt', '.pth', '.pkl', '.pickle'}:
        return 'pickle folder'
    # Images of a clip may be in a folder of their own.
    inside = any(not files.is_hidden(file.relative_to(path)) for file in path.glob('*/*.npz'))
    return 'npz folder' if inside else 'folder'


def _is_hdf5(path: Path) -> bool:
    return path.is_file() and h5py.is_hdf5(path)


def _start(path: Path) -> bytes:
    with path.open('rb') as file:
        return file.read(512)


def _archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception as error:  # of many types, see `numpy_files`
        raise UserError(
            f'{path} is a damaged archive ({first_line(error)}): copy it again'
        ) from None
    # torch.save writes a zip, too, with a pickle in it.
    if any(name.endswith('data.pkl') for name in names):
        return 'torch'
    return 'npz' if names and all(name.endswith('.npy') for name in names) else 'unknown'


def _is_tsv(path: Path, start: bytes) -> bool:
    """Whether the first line has the columns of bottom-up-attention, with numbers in their places.

    One of fifty videos has as many tabs before its first line feed.
    """
    open_it = gzip.open if start.startswith(GZIP) else open
    try:
        with open_it(path, 'rb') as file:
            # A row may have a megabyte, and a file without rows gigabytes in its only line.
            cells = file.readline(1 << 26).split(b'\t')
    except Exception as error:  # gzip raises zlib's, too
        raise UserError(
            f'{path} is a damaged gzip file ({first_line(error)}): copy it again'
        ) from None
    numbers = TSV_NUMBERS.get(len(cells))
    return numbers is not None and all(cells[i].isdigit() for i in numbers)
