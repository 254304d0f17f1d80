"""Which images belong to which clip, told from their names."""

import re
from collections.abc import Sequence

_MOST = 1000  # images of one clip; more of one prefix are a collection of pictures
_LAST = 99_999  # largest frame number, an hour of video; larger ones number pictures
_NAME = re.compile(
    r'(?P<clip>.+?)[/_-](?:(?:frame|image|img)[_-]?)?(?P<frame>[0-9]+)(?:\.(?:jpg|jpeg|png))?',
    re.IGNORECASE,
)


def group_images(names: Sequence[str]) -> dict[str, list[str]]:
    """Group `<clip>_<frame>`, `<clip>-<frame>` and `<clip>/<frame>`: {clip: images by frame}.

    All names are grouped or none: where most of them would stand alone, as clip names that end in
    a number do, each name is a clip with one image.
    """
    groups: dict[str, dict[int, str]] = {}
    for name in names:
        found = _NAME.fullmatch(name)
        if not found:
            return {name: [name] for name in names}
        groups.setdefault(found['clip'], {})[int(found['frame'])] = name
    if not _are_clips(groups, len(names)):
        return {name: [name] for name in names}
    return {clip: [images[k] for k in sorted(images)] for clip, images in groups.items()}


def _are_clips(groups: dict[str, dict[int, str]], num_names: int) -> bool:
    # Two names with one frame number (7 and 007) are no frames of one clip.
    unique = sum(map(len, groups.values())) == num_names
    small = all(len(images) <= _MOST and max(images) <= _LAST for images in groups.values())
    return unique and small and 2 * len(groups) <= num_names
