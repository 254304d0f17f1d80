"""Report what a file or folder is, and how to pass it: `launch/inspect_file.py`."""

from pathlib import Path

from stg_jax.data.manifest import Manifest
from stg_jax.datasets.base import Annotations
from stg_jax.datasets.registry import find_data_set, read_annotations
from stg_jax.errors import UserError
from stg_jax.feature_files.detect import content, refuse_other
from stg_jax.prepare.inspect.features import describe_features, describe_matches


def inspect(path: str, annotations: Annotations | None, ids: str | None) -> str:
    """Describe a file or folder of features, videos, captions or prepared data.

    Args:
      path: any file or folder; nothing in it is executed.
      annotations: clips to match the keys of features with, if any.
      ids: how keys name clips, see `datasets.clip_ids`; None: inferred.

    Raises:
      UserError: the file does not exist, its content is of no known kind, or it holds damaged
        annotations.
    """
    # By content, not by name: files are renamed, and a wrong suffix must not decide.
    found = content(path)
    if found in ('HDF5', 'TSV', 'npy folder', 'npz folder', 'npz'):
        return '\n'.join(describe_features(path, found, annotations, ids))
    if found == 'data folder':
        return '\n'.join(_data_folder(path))
    # These are refused with the advice that preparing them would give.
    if found in ('pickle', 'torch', 'pickle folder', 'npy', 'empty'):
        raise refuse_other(path, found)
    lines = _captions(path)
    if not lines and found == 'HDF5 folder':
        raise refuse_other(path, found)
    return '\n'.join(lines or _videos(path, annotations, ids))


def _data_folder(path: str) -> list[str]:
    manifest = Manifest.load(path)
    widths = ', '.join(f'{kind} {width}' for kind, width in manifest.widths.items())
    lines = [
        f'{path}: a data folder of {manifest.data_set}, ready to train on',
        f'{manifest.frames} frames, at most {manifest.objects} objects each; widths: {widths}',
        f'features by {manifest.extractor.get("name")}',
    ]
    for split, counts in manifest.splits.items():
        lines.append(f'{split}: {counts["clips"]} clips with {counts["captions"]} captions')
    return lines


def _captions(path: str) -> list[str]:
    """Describe annotations; no lines if the path holds none.

    Raises:
      UserError: the path seems to hold annotations, but they are damaged.
    """
    data_set = find_data_set(path)
    if data_set is None:
        return []
    try:
        annotations = read_annotations(data_set, path)
    except UserError:
        # A folder of videos may hold a table of something else. A single file of text is no video,
        # though FFmpeg would draw its lines as frames.
        if Path(path).is_dir():
            return []
        raise
    lines = [f'{path}: captions, read as {data_set}']
    for split, clips in annotations.splits.items():
        number = sum(map(len, clips.values()))
        lines.append(f'{split}: {len(clips)} clips with {number} captions')
    return [*lines, *annotations.notes, f'pass it as: {data_set} --annotations={path}']


def _videos(path: str, annotations: Annotations | None, ids: str | None) -> list[str]:
    if not Path(path).is_dir():
        return _video(path)
    from stg_jax.prepare.from_videos import keyed_videos

    try:
        stems = list(keyed_videos(path))
    except UserError as error:
        raise UserError(f'{refuse_other(path, "folder")}; and {error}') from None
    return [
        f'{path}: {len(stems)} video files, like {Path(stems[0]).name}',
        *describe_matches(stems, annotations, ids),
        f'pass it as: --videos={path}',
    ]


def _video(path: str) -> list[str]:
    from stg_jax.extract.video.frames import read_frames

    try:
        video = read_frames(path, 1, size=(16, 16))
    except UserError as error:
        raise UserError(f'{refuse_other(path, "unknown")}; and {error}') from None
    return [
        f'{path}: a video of {video.num_frames} frames, {video.fps:.2f} a second, '
        f'{video.width} x {video.height} pixels',
        'pass its folder as --videos, or the file itself to launch/caption.py',
    ]
