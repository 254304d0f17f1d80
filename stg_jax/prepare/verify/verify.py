"""Verify a data folder: read all of it, and report its content, problems and remarks."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from stg_jax import files
from stg_jax.data.manifest import NAME, Manifest
from stg_jax.errors import UserError
from stg_jax.extract.video.files import find_videos
from stg_jax.extract.video.frames import read_frames
from stg_jax.prepare.verify import contact_sheet
from stg_jax.prepare.verify.card import NAME as CARD_NAME
from stg_jax.prepare.verify.card import DataCard, SplitCard
from stg_jax.prepare.verify.scan import Scan, SheetRow
from stg_jax.prepare.workers import Failure
from stg_jax.prepare.write import FAILURES

_SPLITS = ('train', 'val', 'test')
_MOST_BARE = 0.5  # fraction of frames without objects above which a remark is made


def verify(
    data_dir: Path, videos: Path | None = None, *, max_words: int, min_count: int
) -> DataCard:
    """Read every record of a data folder once; write its data card and its contact sheet.

    The contact sheet is left out if neither the manifest nor the caller names the videos.

    Args:
      data_dir: the folder; data_card.json and contact_sheet.png are written into it.
      videos: folder of the videos, if it is not the one that the manifest names.
      max_words: maximum number of words of a caption; longer ones are cut.
      min_count: occurrences in train from which on a word is in the vocabulary.

    Raises:
      UserError: the folder has no manifest, or `videos` holds no video.
    """
    manifest = Manifest.load(data_dir / NAME)
    scan = Scan(data_dir, manifest, _videos(data_dir, manifest, videos))
    for split in manifest.splits:
        scan.read(split)
    scan.compare_splits()
    _add_failures(data_dir / FAILURES, scan)
    rows, unread = _draw(scan.sheet, manifest.frames)
    words = scan.tallies['train'].words if 'train' in scan.tallies else {}
    # The vocabulary of train, as training will build it.
    vocabulary = {word for word, count in words.items() if count >= min_count}
    splits = {name: tally.card(vocabulary, max_words) for name, tally in scan.tallies.items()}
    card = DataCard(
        folder=str(data_dir),
        manifest=manifest,
        max_words=max_words,
        min_count=min_count,
        splits=splits,
        problems=scan.problems.sentences,
        remarks=[
            *_missing_splits(manifest),
            *_bare_frames(splits),
            *scan.remarks.sentences,
            *unread,
        ],
        contact_sheet=str(data_dir / contact_sheet.NAME) if rows else '',
    )
    return _written(card, rows, data_dir)


def _videos(data_dir: Path, manifest: Manifest, videos: Path | None) -> list[str]:
    """Find the video files, none if the folder has been moved."""
    if videos is not None:
        return list(map(os.fspath, find_videos(videos)))
    stated = manifest.sources.get('videos')
    if not isinstance(stated, str):
        return []
    # Verification must also work on another machine, where the videos are not.
    with contextlib.suppress(UserError):  # they may have been moved since
        return list(map(os.fspath, find_videos(data_dir / stated)))
    return []


def _missing_splits(manifest: Manifest) -> Iterator[str]:
    return (f'there is no {split} split' for split in _SPLITS if split not in manifest.splits)


def _bare_frames(splits: Mapping[str, SplitCard]) -> Iterator[str]:
    for name, card in splits.items():
        share = card.objects_per_frame[0] / max(1, sum(card.objects_per_frame))
        if share > _MOST_BARE:
            yield f'{name}: {share:.0%} of the frames have no object'


def _add_failures(path: Path, scan: Scan) -> None:
    """Add a remark about the clips that could not be made, from failures.json."""
    try:
        failures = [Failure(**entry) for entry in files.read_json(path)] if path.exists() else []
    except (TypeError, UserError):
        scan.problems.add(f'{path} is damaged: it is no JSON list of clip, file and reason')
        return
    if failures:
        scan.remarks.add(
            f'{len(failures):,} clips could not be made and are left out, see {path.name}, such as '
            f'{failures[0].clip}: {failures[0].reason}'
        )


def _draw(sheet: Sequence[SheetRow], num_frames: int) -> tuple[list[np.ndarray], list[str]]:
    """Draw a row for each clip whose video can be read; return a remark for each other one."""
    rows, remarks = [], []
    for split, clip, video in sheet:
        try:
            frames = read_frames(video, num_frames).frames
        except UserError as error:
            remarks.append(f'clip {clip.id} is not on the contact sheet: {error}')
            continue
        caption = clip.captions[0] if clip.captions else '(no caption)'
        rows.append(contact_sheet.draw_row(frames, clip, f'{split} {clip.id}: {caption}'))
    return rows, remarks or ([] if rows else ['no video is at hand for a contact sheet'])


def _written(card: DataCard, rows: Sequence[np.ndarray], data_dir: Path) -> DataCard:
    """Write card and sheet; if the folder cannot be written, the card gets a remark instead."""
    try:
        if rows:
            contact_sheet.write_sheet(card.contact_sheet, rows)
        card.save(data_dir / CARD_NAME)
    except OSError as error:
        remark = f'the card is not kept, as {data_dir} cannot be written: {error.strerror}'
        return dataclasses.replace(card, remarks=[*card.remarks, remark], contact_sheet='')
    return card
