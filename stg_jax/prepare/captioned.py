"""Which captioned clips can be made, and which are left out."""

from collections.abc import Container, Iterator, Mapping

from stg_jax.data.annotations import Annotations
from stg_jax.prepare.work import Request


def requests(annotations: Annotations, path_of: Mapping[str, str]) -> dict[str, list[Request]]:
    """Return a request for every captioned clip with a path, by split; no empty splits.

    Args:
      annotations: of the data set.
      path_of: video file of a clip, '' where it comes from feature files.
    """
    splits = {
        split: [
            Request(clip_id, tuple(texts), annotations.source.get(clip_id, ''), path_of[clip_id])
            for clip_id, texts in captions.items()
            if clip_id in path_of
        ]
        for split, captions in annotations.splits.items()
    }
    return {split: wanted for split, wanted in splits.items() if wanted}


def left_out(annotations: Annotations, present: Container[str], what: str) -> Iterator[str]:
    """Yield a sentence for each split with captioned clips that are not `present`."""
    for split, captions in annotations.splits.items():
        lacking = [clip_id for clip_id in captions if clip_id not in present]
        if lacking:
            yield (
                f'{split}: {len(lacking)} of {len(captions)} captioned clips have no {what} and '
                f'are left out, e.g. {lacking[0]}'
            )
