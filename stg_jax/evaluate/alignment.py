"""Pair captions with the references of the same clips, or name the clips that do not match."""

from collections.abc import Collection, Mapping, Sequence

from stg_jax.errors import UserError

_NUM_NAMED = 3


def check_references(references: Mapping[str, Sequence[str]]) -> None:
    """Check that there are clips, and that each has a reference that is not blank.

    Raises:
      UserError: there are none, or a clip has none.
    """
    if not references:
        raise UserError('no clips to score: the references are empty')
    empty = {clip for clip, captions in references.items() if not any(map(str.split, captions))}
    _refuse(empty, 'no references', 'leave them out of both files')


def in_order_of(clips: Sequence[str], predictions: Mapping[str, str]) -> list[str]:
    """List the captions of clips in the order of the clips.

    Raises:
      UserError: a clip has no caption, or a caption is of another clip.
    """
    # A score of part of a split is not comparable with anything, so nothing is dropped silently.
    known = frozenset(clips)
    if predictions and not known & predictions.keys():
        raise UserError(
            f'the predictions are of clips like {min(predictions)!r}, the references of clips like '
            f'{min(known)!r}: both must call the clips alike'
        )
    _refuse(known - predictions.keys(), 'no prediction', 'caption the whole split')
    _refuse(predictions.keys() - known, 'no references', 'name the right split')
    return [predictions[clip] for clip in clips]


def align(
    predictions: Mapping[str, str], references: Mapping[str, Sequence[str]]
) -> tuple[list[str], list[str], list[list[str]]]:
    """List clip ids, captions and references in one order, that of the sorted ids.

    Raises:
      UserError: the clips differ, or one has no reference.
    """
    check_references(references)
    clips = sorted(references)
    return clips, in_order_of(clips, predictions), [list(references[clip]) for clip in clips]


def _refuse(clips: Collection[str], lack: str, remedy: str) -> None:
    # A few names show the pattern; thousands would hide the sentence.
    if clips:
        named = ', '.join(map(repr, sorted(clips)[:_NUM_NAMED]))
        more = f' and {len(clips) - _NUM_NAMED} more' if len(clips) > _NUM_NAMED else ''
        raise UserError(f'{lack} for clip {named}{more}: {remedy}')
