"""Match the keys of feature files, and the names of videos, with the clips of a data set."""

import collections
import dataclasses
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath

from stg_jax.datasets.base import Annotations
from stg_jax.errors import UserError
from stg_jax.extract.video.files import VIDEO_SUFFIXES

# The ways in which published feature files name the clips of MSVD and MSR-VTT, in the order of
# preference where several fit equally well.
SCHEMES = ('name', 'vidK', 'videoN', 'videoK', 'index0', 'index1')
_NUMBERED = {  # how a key is written, and the number of the first clip
    'vidK': (re.compile(r'vid([0-9]{1,9})'), 1),
    'videoN': (re.compile(r'video([0-9]{1,9})'), 0),
    'videoK': (re.compile(r'video([0-9]{1,9})'), 1),
    'index0': (re.compile(r'([0-9]{1,9})'), 0),
    'index1': (re.compile(r'([0-9]{1,9})'), 1),
}
# Keys that look the same, counted from 1 instead of from 0.
FROM_ONE = {'videoN': 'videoK', 'index0': 'index1'}


@dataclasses.dataclass(frozen=True)
class IdMapping:
    """What the keys of a file mean.

    Attributes:
      scheme: one of `SCHEMES`.
      key_of: the key of each clip that has one.
      unmatched: the keys that mean no clip.
      warnings: one sentence for everything that was assumed.
    """

    scheme: str
    key_of: Mapping[str, str]
    unmatched: Sequence[str]
    warnings: Sequence[str]


def match_keys(
    keys: Sequence[str], annotations: Annotations, scheme: str | None = None
) -> IdMapping:
    """Find the clip of each key, by the scheme under which most keys mean a known clip.

    Schemes are 'name' (the clip id), 'vidK' (counted from 1), 'videoN' (counted from 0) or 'videoK'
    (from 1), and bare numbers counted from 0 ('index0') or 1 ('index1'). The extension of a video
    is ignored, and so are zeros before a number and, where that leaves one clip only, folders
    before a name; so are case and Unicode form, where nothing else fits. Known are all numbered
    clips, not only those with captions.

    Args:
      keys: of a feature file, or the names of video files.
      annotations: the clips.
      scheme: takes this one instead of looking for the best.

    Raises:
      UserError: no key means a clip, or the scheme is unknown.
    """
    tried = _try(keys, annotations, scheme)
    best = _best(tried)
    if not best.key_of:
        known = [*annotations.clip_ids, *annotations.number]
        raise UserError(
            f'none of {len(keys)} keys means a clip{f" as {scheme}" if scheme else ""}: keys are '
            f'like {_example(keys)}, clips like {_example(known)}: check the files, or pass --ids'
        )
    # Numbers 1 to 1299 of 1,300 clips fit both: nothing in the file can decide, only a person can.
    other = tried.get(FROM_ONE.get(best.scheme, ''))
    if other and len(other.key_of) == len(best.key_of):
        doubt = (
            f'the numbers {_example(keys)} ... fit clips counted from 0 and from 1: took 0, '
            f'pass --ids={other.scheme} if that is wrong'
        )
        best = dataclasses.replace(best, warnings=[*best.warnings, doubt])
    return best


def fit(
    annotations: Annotations, scheme: str | None = None
) -> Callable[[Sequence[str]], tuple[int, int]]:
    """Make a function that scores how well keys match clips, to choose among readings of a file.

    Its score is the number of clips, then minus the number of keys that match none.
    """

    def fit_of(keys: Sequence[str]) -> tuple[int, int]:
        best = _best(_try(keys, annotations, scheme))
        return (len(best.key_of), -len(best.unmatched)) if best.key_of else (0, 0)

    return fit_of


def _try(keys: Sequence[str], annotations: Annotations, scheme: str | None) -> dict[str, IdMapping]:
    """Match keys under one scheme, or under each of them."""
    if scheme is not None and scheme not in SCHEMES:
        raise UserError(f'there is no id scheme {scheme!r}: use {", ".join(SCHEMES)}')
    return {name: _match(name, keys, annotations) for name in ([scheme] if scheme else SCHEMES)}


def _best(tried: Mapping[str, IdMapping]) -> IdMapping:
    return max(tried.values(), key=lambda mapping: len(mapping.key_of))


def _match(scheme: str, keys: Sequence[str], annotations: Annotations) -> IdMapping:
    # Exact names first: only what is left over may be matched by another case or form, so that
    # two clips that differ only in case stay apart.
    clip_of = _by_name(annotations, str) if scheme == 'name' else _by_number(annotations, scheme)
    key_of, unmatched, warnings = {}, [], []
    for key in keys:
        clip = clip_of(key)
        if clip in key_of:
            warnings.append(f'keys {key_of[clip]} and {key} both mean clip {clip}: took the first')
        if clip is None or clip in key_of:
            unmatched.append(key)
        else:
            key_of[clip] = key
    mapping = IdMapping(scheme, key_of, unmatched, warnings)
    return _match_folded(mapping, annotations) if scheme == 'name' and unmatched else mapping


def _match_folded(mapping: IdMapping, annotations: Annotations) -> IdMapping:
    """Add keys that are the only ones to name a clip but for case, Unicode form and blanks.

    File systems change names: macOS decomposes accents, and cameras write `.MP4` in capitals.
    """
    clip_of = _by_name(annotations, _fold)
    keys_of = collections.defaultdict(list)
    for key in mapping.unmatched:
        keys_of[clip_of(key)].append(key)
    added = {
        clip: keys[0]
        for clip, keys in keys_of.items()
        if clip is not None and clip not in mapping.key_of and len(keys) == 1
    }
    if not added:
        return mapping
    keys = set(added.values())
    clip, key = next(iter(added.items()))
    note = (
        f'{len(added)} keys name their clips in another case or Unicode form or with blanks, such '
        f'as {key!r} for {clip!r}'
    )
    return IdMapping(
        scheme=mapping.scheme,
        key_of={**mapping.key_of, **added},
        unmatched=[key for key in mapping.unmatched if key not in keys],
        warnings=[*mapping.warnings, note],
    )


def _by_number(annotations: Annotations, scheme: str) -> Callable[[str], str | None]:
    pattern, first = _NUMBERED[scheme]
    # All numbered clips, captioned or not: else a feature file of all of MSVD would look as if most
    # of its keys meant nothing.
    clip_at = {number + first: clip for clip, number in annotations.number.items()}

    def clip_of(key: str) -> str | None:
        match = pattern.fullmatch(_stem(key))
        return clip_at.get(int(match[1])) if match else None

    return clip_of


def _by_name(annotations: Annotations, fold: Callable[[str], str]) -> Callable[[str], str | None]:
    """Make a function that finds the clip of a name; names are equal if `fold` maps them so."""
    clips = collections.defaultdict(set)
    known = dict.fromkeys([*annotations.clip_ids, *annotations.number])
    for clip in known:
        for name in _names(clip):
            clips[fold(name)].add(clip)

    def clip_of(key: str) -> str | None:
        if key in known:
            return key
        candidates = next((clips[name] for name in map(fold, _names(key)) if name in clips), ())
        return next(iter(candidates)) if len(candidates) == 1 else None

    return clip_of


def _fold(name: str) -> str:
    # Twice: casefold can take a letter apart that NFC had composed.
    folded = unicodedata.normalize('NFC', unicodedata.normalize('NFC', name).casefold())
    return folded.strip()


def _names(text: str) -> list[str]:
    """List a name, the name without its extension, and that without its folders."""
    stem = _stem(text)
    return [text, stem, stem.rpartition('/')[2]]


def _stem(name: str) -> str:
    """Remove the extension of a video's name; other names keep what follows a dot."""
    path = PurePosixPath(name)
    return name.removesuffix(path.suffix) if path.suffix.lower() in VIDEO_SUFFIXES else name


def _example(names: Sequence[str]) -> str:
    return repr(names[0]) if names else 'nothing (there are none)'
