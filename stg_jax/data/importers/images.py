"""Which images belong to which clip, told from their names."""

import re
from collections.abc import Callable, Sequence

# How well keys mean clips, the larger the better: see `data.ids.fit`.
Fit = Callable[[Sequence[str]], tuple[int, int]]

_MOST = 1000  # images of one clip; more of one prefix are a collection of pictures
_LAST = 99_999  # largest frame number, an hour of video; larger ones number pictures
_NAME = re.compile(
    r'(?P<clip>.+?)[/_-](?P<marker>(?:frame|image|img)[_-]?)?(?P<frame>[0-9]+)'
    r'(?:\.(?:jpg|jpeg|png))?',
    re.IGNORECASE,
)


def group_images(names: Sequence[str], fit: Fit | None = None) -> dict[str, list[str]]:
    """Group `<clip>_<frame>`, `<clip>-<frame>` and `<clip>/<frame>`: {clip: images by frame}.

    All names are grouped or none, in which case each is a clip with one image.

    Args:
      names: of the images.
      fit: tells which of both fits the annotations; where it tells nothing, and without it, the
        names alone do: clips may be numbered as well as frames.
    """
    alone = {name: [name] for name in names}
    found = [_NAME.fullmatch(name) for name in names]
    if not all(found):
        return alone
    groups: dict[str, dict[int, str]] = {}
    for match in found:
        groups.setdefault(match['clip'], {})[int(match['frame'])] = match.string
    # Two names with one frame number (7 and 007) are no frames of one clip.
    if sum(map(len, groups.values())) < len(names):
        return alone
    apart, together = (fit(list(keys)) if fit else (0, 0) for keys in (alone, groups))
    marked = all(match['marker'] for match in found)
    if apart > together or (apart == together and not _are_clips(groups, marked)):
        return alone
    return {clip: [images[k] for k in sorted(images)] for clip, images in groups.items()}


def _are_clips(groups: dict[str, dict[int, str]], marked: bool) -> bool:
    """Return whether the names look like frames of clips: `video_001` may itself be a clip."""
    small = all(len(images) <= _MOST and max(images) <= _LAST for images in groups.values())
    several = len(groups) > 1 and all(len(images) > 1 for images in groups.values())
    return small and (marked or several)
