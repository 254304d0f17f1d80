"""MSVD as a data folder: its captions joined with features from HDF5 files."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from stg_jax.data.annotations import msvd
from stg_jax.data.clip import Clip
from stg_jax.data.importers import hdf5
from stg_jax.data.manifest import Manifest
from stg_jax.errors import UserError
from stg_jax.prepare.progress import progress, say


def prepare_msvd(
    out: Path,
    *,
    annotations: str,
    appearance: str,
    motion: str,
    objects: str,
    num_frames: int,
    num_objects: int,
) -> Manifest:
    """Join annotations and features of MSVD and write them.

    Args:
      out: folder that must not exist; it appears whole or not at all.
      annotations: folder of the captions, see `stg_jax.data.annotations.msvd`.
      appearance: HDF5 file, clip name to (steps, C2).
      motion: HDF5 file, clip name to (steps, C3).
      objects: HDF5 file, clip name to a group, see `stg_jax.data.importers.hdf5`.
      num_frames: T, to which the steps are resampled.
      num_objects: N, the most objects of a frame.

    Raises:
      UserError: a file is missing or of another layout, or no clip is in both.
    """
    splits = msvd.read_splits(annotations)
    paths = {'appearance': appearance, 'motion': motion, 'objects': objects}
    with hdf5.open_features(**paths, num_frames=num_frames, num_objects=num_objects) as features:
        from stg_jax.data import records  # after the checks, so that a mistake shows at once

        splits = _with_features(splits, features)
        ids = [clip_id for captions in splits.values() for clip_id in captions]
        missing = features.missing(ids)
        for kind, lacking in missing.items():
            if lacking:
                say(f'{len(lacking)} clips have no {kind} features: they stay, without')

        def clips(split: str, captions: Mapping[str, list[str]]) -> Iterator[Clip]:
            rows = progress(captions.items(), len(captions), f'{split}: written')
            return (features.read(clip_id, texts) for clip_id, texts in rows)

        return records.write_data_folder(
            out,
            {split: clips(split, captions) for split, captions in splits.items()},
            data_set='msvd',
            extractor={'name': 'hdf5', **{name: Path(path).name for name, path in paths.items()}},
            sources={'annotations': annotations, **paths},
            missing=missing,
        )


def _with_features(
    splits: Mapping[str, Mapping[str, list[str]]], features: hdf5.FeatureFiles
) -> dict[str, dict[str, list[str]]]:
    """Return the clips that have captions and appearance features; say how many have one only."""
    captioned = {clip_id for captions in splits.values() for clip_id in captions}
    featured = set(features.appearance)
    if not captioned & featured:
        raise UserError(
            f'{features.appearance.filename} and the annotations have no clip in common: its keys '
            f'are like {min(featured)!r}, but must be like {min(captioned)!r}'
        )
    for lacking, present, number in (
        ('captions', 'features', len(featured - captioned)),
        ('appearance features', 'captions', len(captioned - featured)),
    ):
        if number:
            say(f'left out: {number} clips with {present} but without {lacking}')
    return {
        split: {clip_id: texts for clip_id, texts in captions.items() if clip_id in featured}
        for split, captions in splits.items()
    }
