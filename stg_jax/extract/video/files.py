"""Which files are videos."""

import os
from collections.abc import Iterable
from pathlib import Path

from stg_jax.errors import UserError

# The usual suffixes of the formats that `container` opens.
VIDEO_SUFFIXES = {
    *('.3g2', '.3gp', '.amv', '.apng', '.asf', '.avi', '.divx', '.dv', '.f4v', '.flv', '.gif'),
    *(
        '.h264',
        '.hevc',
        '.ivf',
        '.m1v',
        '.m2t',
        '.m2ts',
        '.m2v',
        '.m4v',
        '.mjpeg',
        '.mjpg',
        '.mk3d',
    ),
    *('.mkv', '.mod', '.mov', '.mp4', '.mpe', '.mpeg', '.mpg', '.mpv', '.mts', '.mxf', '.nut'),
    *(
        '.obu',
        '.ogg',
        '.ogm',
        '.ogv',
        '.qt',
        '.rm',
        '.rmvb',
        '.tod',
        '.trp',
        '.ts',
        '.vob',
        '.webm',
    ),
    *('.wmv', '.wtv', '.xvid', '.y4m'),
}
# Files that are expected beside videos. Any other file may be a video, and is reported.
_OTHERS = {
    *('.txt', '.csv', '.tsv', '.json', '.jsonl', '.xml', '.html', '.htm', '.md', '.pdf', '.log'),
    *('.srt', '.vtt', '.ass', '.sub', '.idx', '.nfo', '.jpg', '.jpeg', '.png', '.webp', '.bmp'),
    *('.py', '.sh', '.zip', '.tar', '.gz', '.wav', '.mp3', '.m4a', '.aac', '.flac', '.npy', '.npz'),
    *('.hdf5', '.h5', '.pkl', '.pt', '.pth', '.onnx', '.db', '.ini', '.lock', '.tmp', '.md5'),
}


def find_videos(folder: str | os.PathLike[str]) -> list[Path]:
    """List the videos below a folder, sorted by path; hidden files are left out.

    Raises:
      UserError: the folder does not exist, or holds no video.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f'the videos folder {folder} does not exist')
    found = [path for path in _visible_files(folder) if path.suffix.lower() in VIDEO_SUFFIXES]
    if not found:
        left_out = left_out_sentence(folder)
        reason = f'; {left_out}' if left_out else ''
        raise UserError(
            f'{folder} holds no video file ({" ".join(sorted(VIDEO_SUFFIXES))}){reason}'
        )
    return found


def unknown_files(folder: str | os.PathLike[str]) -> list[Path]:
    """List the files below a folder that may be videos but do not end like one."""
    known = VIDEO_SUFFIXES | _OTHERS
    return [path for path in _visible_files(Path(folder)) if path.suffix.lower() not in known]


def left_out_sentence(folder: str | os.PathLike[str]) -> str:
    """Report the files that `find_videos` leaves out by their suffix; '' if there are none."""
    paths = unknown_files(folder)
    if not paths:
        return ''
    listed = ', '.join(printable(path.name) for path in paths[:5])
    return (
        f'{folder}: {len(paths)} files do not end like a video and are left out ({listed}): name a '
        'file by itself, or rename it'
    )


def list_videos(names: Iterable[str]) -> list[Path]:
    """List the files of a command line; a folder stands for the videos below it.

    Raises:
      UserError: a folder holds no video.
    """
    paths: dict[Path, None] = {}
    for name in names:
        path = Path(name)
        paths |= dict.fromkeys(find_videos(path) if path.is_dir() else [path])
    return list(paths)


def printable(name: str) -> str:
    """Escape the bytes of a file name that are not UTF-8, so that it can be written as text."""
    return os.fsencode(name).decode('utf-8', 'backslashreplace')


def _visible_files(folder: Path) -> list[Path]:
    # '._x.mp4' is not a video: macOS puts such a file beside every x.mp4 on foreign disks.
    return [path for path in sorted(folder.rglob('*')) if path.name[0] != '.' and path.is_file()]
