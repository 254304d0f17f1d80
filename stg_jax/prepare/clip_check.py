"""What may be wrong or unusual about one stored clip."""

from collections.abc import Iterator

from stg_jax.data.check import check_clip
from stg_jax.data.clip import Clip
from stg_jax.data.manifest import Manifest
from stg_jax.errors import UserError


class ClipCheck:
    """Compares clips with the manifest of their folder. The sentences do not name the clip."""

    def __init__(self, manifest: Manifest):
        self._shape = manifest.frames, manifest.objects
        self._widths = manifest.widths
        self._missing = {kind: frozenset(manifest.missing.get(kind, ())) for kind in manifest.kinds}

    def problems(self, clip: Clip) -> Iterator[str]:
        """Yield what is wrong with a clip."""
        try:
            check_clip(clip)
        except UserError as error:
            yield str(error).removeprefix(f'clip {clip.id}: ')
            return  # the rest counts on sound arrays
        if clip.object_mask.shape != self._shape:
            found = clip.object_mask.shape
            yield f'the manifest says {self._shape} frames and objects, but there are {found}'
        if (clip.grid is None) != ('grid' not in self._widths):
            yield 'the manifest and the clip differ in whether there is a grid'
            return
        for kind in self._missing:
            width, found = self._widths[kind], getattr(clip, kind).shape[-1]
            if width != found:
                yield f'the manifest says {width} channels of {kind} features, but it is {found}'
            listed = clip.id in self._missing[kind]
            if listed and getattr(clip, kind).any():
                yield f'the manifest lists the {kind} features as missing, but there are some'
            # In a still picture nothing moves; but none is described by zeros alone.
            if kind != 'motion' and self._unlisted_zeros(clip, kind):
                yield f'all {kind} features are zero, but the manifest does not list them'

    def remarks(self, clip: Clip) -> Iterator[str]:
        """Yield what is unusual about a sound clip."""
        if self._unlisted_zeros(clip, 'motion'):
            yield 'all motion features are zero, but the manifest does not list them'
        box = clip.box[clip.object_mask]
        if (box[:, :2] == box[:, 2:]).any():
            yield 'an object has a box without area'
        if not clip.captions:
            yield 'there is no caption'

    def _unlisted_zeros(self, clip: Clip, kind: str) -> bool:
        expected = kind != 'object' or clip.object_mask.any()
        unlisted = clip.id not in self._missing[kind]
        return bool(expected and unlisted and not getattr(clip, kind).any())
