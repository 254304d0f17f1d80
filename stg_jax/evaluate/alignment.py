"""Captions beside the references of the same clips, or a refusal that names the clips."""

from collections.abc import Collection, Mapping, Sequence

from stg_jax.errors import UserError

_NUM_NAMED = 3


def check_references(references: Mapping[str, Sequence[str]]) -> None:
    """Check that there is a clip, and a reference with a word of every clip.

    Raises:
      UserError: there is not.
    """
    if not references:
        raise UserError('there is no clip to score: the references are empty')
    empty = {clip for clip, captions in references.items() if not any(map(str.split, captions))}
    _refuse(empty, 'no references', 'leave them out of both files')


def in_order_of(clips: Sequence[str], predictions: Mapping[str, str]) -> list[str]:
    """Return the captions of clips in their order.

    Raises:
      UserError: a clip has no caption, or a caption is of another clip.
    """
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
    """Return clip ids, captions and references as lists in one order, that of the sorted ids.

    Raises:
      UserError: the clips differ, or one has no reference.
    """
    check_references(references)
    clips = sorted(references)
    return clips, in_order_of(clips, predictions), [list(references[clip]) for clip in clips]


def _refuse(clips: Collection[str], lack: str, remedy: str) -> None:
    if clips:
        named = ', '.join(map(repr, sorted(clips)[:_NUM_NAMED]))
        more = f' and {len(clips) - _NUM_NAMED} more' if len(clips) > _NUM_NAMED else ''
        raise UserError(f'{lack} for clip {named}{more}: {remedy}')
