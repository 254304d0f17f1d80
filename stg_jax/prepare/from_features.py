"""Plan a preparation that joins captions with features from existing files."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stg_jax.data.clip import Clip, no_objects
from stg_jax.data.frame_sampling import average_steps, pick_steps, sample_index
from stg_jax.datasets.base import Annotations
from stg_jax.datasets.clip_ids import fit, match_keys
from stg_jax.feature_files.objects import Fit, best_objects
from stg_jax.feature_files.open import open_frames, open_grid, open_objects
from stg_jax.prepare.plan import DataPlan, left_out, requests
from stg_jax.prepare.workers import Chunk, Request, Result, attempt


@dataclasses.dataclass(frozen=True)
class FeatureFiles:
    """Feature files of a data set, and the shape that its clips get.

    Attributes:
      appearance: 2D features, PATH or PATH:START-STOP (columns).
      motion: 3D features, in the same form; None if there are none.
      objects: detected objects; None if there are none.
      boxes: boxes of the objects, if they are in a separate file.
      frame_sizes: sizes of the frames, if boxes are in pixels and sizes in a separate file.
      grid: features of the cells of each frame; None: the clips get no grid.
      num_frames: T, to which every clip is resampled.
      num_objects: N, the maximum number of objects of a frame; the best are kept.
      motion_steps: how motion is resampled: 'index' picks T steps, as for the other features;
        'mean' averages the steps of each of T equal parts.
    """

    appearance: str
    motion: str | None
    objects: str | None
    boxes: str | None
    frame_sizes: str | None
    grid: str | None
    num_frames: int
    num_objects: int
    motion_steps: str

    @property
    def paths(self) -> dict[str, str]:
        """Paths of the files that are given, by kind."""
        kinds = ('appearance', 'motion', 'objects', 'boxes', 'frame_sizes', 'grid')
        return {kind: getattr(self, kind) for kind in kinds if getattr(self, kind)}


class FeatureMaker:
    """Makes clips from feature files; see `workers.Maker`."""

    def __init__(self, files: FeatureFiles, key_of: Mapping[str, Mapping[str, str]]):
        self._files, self._key_of = files, key_of
        self.settings = dataclasses.asdict(files)
        self._sources: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Open files cannot be pickled; each process opens its own.
        return self.__dict__ | {'_sources': {}}

    def load(self, chunk: Chunk) -> None:
        """Read nothing ahead: HDF5 has one global lock, so this would only delay `make`."""

    def make(self, chunk: Chunk, loaded: None) -> list[Result]:
        """Read the clips of a chunk."""
        # Opened at the first chunk, in the process that reads them.
        self._sources = self._sources or open_sources(self._files, self._known)
        return [attempt(self._clip, request) for request in chunk]

    def _known(self, keys: Sequence[str]) -> tuple[int, int]:
        """Count the keys that the plan was made with; scores a layout, see `clip_ids.fit`."""
        return len(set(keys) & set(self._key_of['objects'].values())), 0

    def _clip(self, request: Request) -> Clip:
        num_frames = self._files.num_frames
        key = {kind: keys.get(request.clip_id) for kind, keys in self._key_of.items()}
        objects, (height, width) = self._objects(key['objects'])
        return Clip(
            id=request.clip_id,
            captions=request.captions,
            source=request.source,
            appearance=pick_steps(self._sources['appearance'].read(key['appearance']), num_frames),
            motion=self._motion(key['motion']),
            **objects,
            true_box=np.zeros((num_frames, 0, 4), np.float32),
            height=height,
            width=width,
            grid=self._grid(key['grid']) if self._files.grid else None,
        )

    def _motion(self, key: str | None) -> np.ndarray:
        num_frames = self._files.num_frames
        if key is None:
            # Zeros stand for absent features; the manifest lists the clip, so that they are not
            # mistaken for extracted ones.
            return np.zeros((num_frames, _width(self._sources, 'motion')), np.float32)
        resample = average_steps if self._files.motion_steps == 'mean' else pick_steps
        return resample(self._sources['motion'].read(key), num_frames)

    def _grid(self, key: str | None) -> np.ndarray:
        source, num_frames = self._sources['grid'], self._files.num_frames
        if key is None:
            return np.zeros((num_frames, *source.step), np.float32)
        return pick_steps(source.read(key), num_frames)

    def _objects(self, key: str | None) -> tuple[dict[str, Any], tuple[int, int]]:
        """Read the object arrays of a clip and the size of its frames, 0 if unknown."""
        size = self._files.num_frames, self._files.num_objects
        if key is None:
            return no_objects(*size, _width(self._sources, 'objects')), (0, 0)
        found = self._sources['objects'].read(key)
        # The same sampling as for the frames, so that objects and scene features stay aligned.
        index = sample_index(len(found.feature), size[0])
        return best_objects(found, index, size[1]), (found.height, found.width)


def plan_features(annotations: Annotations, files: FeatureFiles, ids: str | None) -> DataPlan:
    """Plan the import of every captioned clip that has appearance features.

    Args:
      annotations: of the data set.
      files: with the features.
      ids: how keys name clips, see `datasets.clip_ids`; None: inferred for each file.

    Raises:
      UserError: a file is missing or of unknown layout, or shares no clip with the annotations.
    """
    notes = list(annotations.notes)
    key_of: dict[str, Mapping[str, str]] = {'motion': {}, 'objects': {}, 'grid': {}}
    families = {}
    # Only the keys are read here. The files are closed before workers start, since HDF5 handles do
    # not survive in another process.
    with contextlib.ExitStack() as stack:
        for kind, source in open_sources(files, fit(annotations, ids)).items():
            stack.callback(source.close)
            # Each file may name clips in its own way: features of one data set often come from
            # several authors.
            mapping = match_keys(source.keys, annotations, ids)
            key_of[kind], families[kind] = mapping.key_of, source.family
            notes.append(f'{source.path}: {source.family}, clips named by {mapping.scheme}')
            notes += [f'{source.path}: {text}' for text in (*mapping.warnings, *source.warnings)]
    # Appearance decides which clips exist: the scene branch, which is deployed, cannot do without
    # it.
    present = key_of['appearance']
    notes += left_out(annotations, present, 'appearance features')
    splits = requests(annotations, dict.fromkeys(present, ''))
    clip_ids = [request.clip_id for wanted in splits.values() for request in wanted]
    return DataPlan(
        data_set=annotations.data_set,
        splits=splits,
        maker=FeatureMaker(files, key_of),
        extractor={'name': 'files', **families, 'motion_steps': files.motion_steps},
        sources=files.paths,
        missing={
            kind: [clip_id for clip_id in clip_ids if clip_id not in key_of[key]]
            for kind, key in {'motion': 'motion', 'object': 'objects', 'grid': 'grid'}.items()
            if kind != 'grid' or files.grid  # without a file no clip has one, and none lacks it
        },
        notes=notes,
        resumable=False,
    )


def open_sources(files: FeatureFiles, fits: Fit) -> dict[str, Any]:
    """Open the files that are given, as a `FrameSource` or `ObjectSource` by kind.

    Args:
      files: to open.
      fits: scores whether numbered keys are clips or frames of clips, see `group_images`.

    Raises:
      UserError: a file is missing or of unknown layout.
    """
    sources: dict[str, Any] = {'appearance': open_frames(files.appearance)}
    if files.motion:
        sources['motion'] = open_frames(files.motion)
    if files.grid:
        sources['grid'] = open_grid(files.grid)
    if files.objects:
        sources['objects'] = open_objects(
            files.objects, boxes=files.boxes, frame_sizes=files.frame_sizes, fit=fits
        )
    return sources


def _width(sources: Mapping[str, Any], kind: str) -> int:
    """Width of absent features: that of the clips that have them, or 1 if no clip does."""
    return sources[kind].width if kind in sources else 1
