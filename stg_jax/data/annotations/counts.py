"""Which captions count, and whether they are as many as were published."""

from collections.abc import Mapping, Sequence

Splits = Mapping[str, Mapping[str, Sequence[str]]]


def without_wordless(
    captions: Mapping[str, Sequence[str]],
) -> tuple[dict[str, list[str]], list[str]]:
    """Return normalised captions by clip without empty ones, and a note if there were any.

    A clip stays even if none of its captions holds a word.
    """
    kept = {clip_id: [text for text in texts if text] for clip_id, texts in captions.items()}
    number = sum(map(len, captions.values())) - sum(map(len, kept.values()))
    return kept, [f'{number:,} captions without any word are left out'] if number else []


def differences(splits: Splits, published: Mapping[str, tuple[int, int]]) -> list[str]:
    """Return a note for each split whose (clips, captions) are not the published ones."""
    notes = []
    for split, (num_clips, num_captions) in published.items():
        found = len(splits[split]), sum(map(len, splits[split].values()))
        if found != (num_clips, num_captions):
            notes.append(
                f'{split}: {found[0]:,} clips with {found[1]:,} captions, but '
                f'{num_clips:,} with {num_captions:,} are published'
            )
    return notes
