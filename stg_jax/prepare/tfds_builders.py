"""The data sets as TFDS builders: `tfds.load('stg_toy')` after importing this module.

    import tensorflow_datasets as tfds
    import stg_jax.prepare.tfds_builders

    tfds.load('stg_toy', split='train')
    tfds.load('stg_msvd', split='train', download_and_prepare_kwargs={
        'download_config': tfds.download.DownloadConfig(manual_dir='MANUAL_DIR')})

or `tfds build stg_msvd --imports=stg_jax.prepare.tfds_builders --manual_dir=MANUAL_DIR`. The
records equal those of `launch/prepare.py`, which also writes the captions and the manifest that
training needs.
"""

import dataclasses
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stg_jax.data.clip import Clip, no_objects
from stg_jax.data.records import example_of, features_of
from stg_jax.data.tf import tfds
from stg_jax.datasets.registry import DATASETS, read_annotations
from stg_jax.datasets.toy.scenes import SPLITS
from stg_jax.errors import UserError
from stg_jax.extract.toy_pixels.extractor import PixelExtractor
from stg_jax.prepare.from_features import FeatureFiles, plan_features
from stg_jax.prepare.toy import ToyMaker, film_clips
from stg_jax.prepare.workers import Maker, Request, chunked, make_all

_OTHER_KINDS = ('motion', 'objects', 'boxes', 'frame_sizes')
_Examples = Iterator[tuple[str, dict[str, Any]]]


@dataclasses.dataclass
class ClipsConfig(tfds.core.BuilderConfig):
    """Shapes of the records; the defaults are the paper's.

    Attributes:
      frames: T.
      objects: N.
      appearance_dim: C2.
      motion_dim: C3.
      object_dim: Co.
      grid_cells: G; 0 leaves the grid out.
      grid_dim: Cg.
      motion_steps: see `FeatureFiles`.
    """

    name: str = 'paper'
    frames: int = 10
    objects: int = 5
    appearance_dim: int = 2048
    motion_dim: int = 1024
    object_dim: int = 2048
    grid_cells: int = 0
    grid_dim: int = 0
    motion_steps: str = 'index'


@dataclasses.dataclass
class ToyConfig(tfds.core.BuilderConfig):
    """Size of the toy world.

    Attributes:
      seed: of the random scenes.
      train: number of clips of the split.
      val: number of clips of the split.
      test: number of clips of the split.
      frames: T.
      objects: N.
    """

    name: str = 'small'
    seed: int = 0
    train: int = 200
    val: int = 20
    test: int = 20
    frames: int = 10
    objects: int = 6


class StgToy(tfds.core.GeneratorBasedBuilder):
    """The rendered toy world, with features extracted from its pixels."""

    VERSION = tfds.core.Version('1.0.0')
    BUILDER_CONFIGS = [ToyConfig()]  # noqa: RUF012 - as TFDS wants it
    builder_config: ToyConfig

    def _info(self) -> tfds.core.DatasetInfo:
        config, widths = self.builder_config, PixelExtractor.widths
        return _info(self, config.frames, config.objects, *widths.values())

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, _Examples]:
        config = self.builder_config
        return {split: self._generate_examples(split, getattr(config, split)) for split in SPLITS}

    def _generate_examples(self, split: str, count: int) -> _Examples:
        config = self.builder_config
        extractor = PixelExtractor(config.frames, config.objects)
        with tempfile.TemporaryDirectory() as folder:
            maker = ToyMaker(extractor, folder, config.seed)
            # TFDS generates splits lazily and in its own order; a pool per split would not pay off.
            for clip in film_clips(maker, {split: count}, workers=1):
                yield clip.id, example_of(clip)


class _FeatureBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Base of builders that join captions with feature files."""

    VERSION = tfds.core.Version('1.0.0')
    BUILDER_CONFIGS = [ClipsConfig()]  # noqa: RUF012 - as TFDS wants it
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    manual_dir holds `annotations/`, and files or folders named `appearance.*`, `motion.*` and
    `objects.*` in any layout that `launch/inspect_file.py` reads. The last two may be missing;
    boxes and frame sizes in separate files are `boxes.*` and `frame_sizes.*`, and the cells of
    frames, read if the config has grid_cells, `grid.*`. For other widths than the paper's:
    builder_kwargs={'config': ClipsConfig(name='mine', appearance_dim=1024)}.
    """

    builder_config: ClipsConfig
    data_set: str

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config
        return _info(
            self,
            *(config.frames, config.objects),
            *(config.appearance_dim, config.motion_dim, config.object_dim),
            grid=(config.grid_cells, config.grid_dim),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, _Examples]:
        folder, config = Path(dl_manager.manual_dir), self.builder_config
        files = FeatureFiles(
            appearance=_appearance(folder),
            **{kind: _file(folder, kind) for kind in _OTHER_KINDS},
            grid=_file(folder, 'grid') if config.grid_cells else None,
            num_frames=config.frames,
            num_objects=config.objects,
            motion_steps=config.motion_steps,
        )
        annotations = read_annotations(self.data_set, folder / 'annotations')
        plan = plan_features(annotations, files, ids=None)
        return {
            split: self._generate_examples(plan.maker, requests)
            for split, requests in plan.splits.items()
        }

    def _generate_examples(self, maker: Maker, requests: Iterable[Request]) -> _Examples:
        for results in make_all(maker, chunked(requests), workers=1):
            for result in results:
                # TFDS has no place for a list of failures, so the first one stops the build.
                if not isinstance(result, Clip):
                    raise UserError(f'{result.clip}: {result.reason}')
                yield result.id, example_of(result)


def _builder(data_set: str) -> type[tfds.core.GeneratorBasedBuilder]:
    """Make the builder `stg_<data set>`; TFDS registers it by its name."""
    attributes = {
        '__doc__': f'Captions of {data_set} with feature files.',
        '__module__': __name__,
        'name': f'stg_{data_set}',
        'data_set': data_set,
    }
    return type(f'Stg{data_set.capitalize()}', (_FeatureBuilder,), attributes)


BUILDERS = {data_set: _builder(data_set) for data_set in DATASETS}


def _info(
    builder: tfds.core.GeneratorBasedBuilder,
    frames: int,
    objects: int,
    appearance_dim: int,
    motion_dim: int,
    object_dim: int,
    *,
    grid: tuple[int, int] = (0, 0),
) -> tfds.core.DatasetInfo:
    # The schema is derived from an empty clip, so that it cannot differ from the records.
    object_arrays: dict[str, Any] = no_objects(frames, objects, object_dim)
    clip = Clip(
        id='',
        captions=(),
        appearance=np.zeros((frames, appearance_dim)),
        motion=np.zeros((frames, motion_dim)),
        **object_arrays,
        true_box=np.zeros((frames, 0, 4)),
        grid=np.zeros((frames, *grid)) if grid[0] else None,
    )
    return tfds.core.DatasetInfo(builder=builder, features=features_of(clip))


def _file(folder: Path, kind: str) -> str | None:
    """Find the file or folder named `kind`, with any extension."""
    found = sorted(path for path in folder.iterdir() if path.name.partition('.')[0] == kind)
    return os.fspath(found[0]) if found else None


def _appearance(folder: Path) -> str:
    path = _file(folder, 'appearance')
    if path is None:
        raise UserError(f'{folder} holds no appearance.* with features (launch/inspect_file.py)')
    return path
