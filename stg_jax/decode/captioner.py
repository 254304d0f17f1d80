"""From features to captions with a trained run, on all devices.

captioner = Captioner.load('runs/msvd')
captions = captioner(features)
"""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np

from stg_jax.data.clip import Clip
from stg_jax.decode.beam import Hypotheses
from stg_jax.decode.generate import ClipFn, mapped_sampler, mapped_search
from stg_jax.errors import UserError
from stg_jax.parallel.mapped import on_all_devices
from stg_jax.parallel.sharding import data_mesh, replicate
from stg_jax.run.build import build_model, feature_shapes, param_shapes
from stg_jax.run.folder import RunFolder
from stg_jax.run.selection import choose_params

PyTree = Any

SCENE_KEYS = ('appearance', 'motion', 'grid')  # what the scene branch reads, the last one perhaps


class Captioner:
    """Caption batches of features with the parameters of a run.

    The clips of a batch are split over the devices of `mesh`. On a pod every process calls the same
    method with its own clips, the same number on each.

    Attributes:
      run: the run folder that it came from.
      branch: name of the language decoder in use.
      model: the network.
      mesh: all devices of all processes.
      params: the parameters, a copy on every device.
      step: optimizer step of the parameters; of an average, that of the best.
      why: one sentence on how the parameters were chosen.
    """

    def __init__(
        self, run: RunFolder, params: PyTree, step: int, branch: str, why: str = 'given by hand'
    ):
        self.run = run
        self.mesh = data_mesh()
        # Once: from the host, every call would copy all parameters to the devices again.
        self.params = replicate(params, self.mesh)
        self.step = step
        self.branch = branch
        self.why = why
        self.model = build_model(run.config, run.manifest, run.vocab)

    @classmethod
    def load(
        cls,
        workdir: str | Path,
        *,
        branch: str | None = None,
        checkpoint: str = 'best',
        average: int = 1,
    ) -> Self:
        """Load a run.

        Args:
          workdir: folder that `launch/train.py` or `launch/export.py` wrote, or hf://USER/NAME.
          branch: 'scene' (the deployed student, needs no objects), 'object' (the teacher) or
            'joint'; the run's deployed one by default.
          checkpoint: 'best' on validation, 'latest', or a step number.
          average: number of checkpoints, the best on validation, whose parameters are averaged.

        Raises:
          UserError: the run, the branch or the checkpoint does not exist or cannot be read.
        """
        # The branch is checked before parameters are read, which can take a minute in a bucket.
        run = RunFolder.open(workdir)
        model = build_model(run.config, run.manifest, run.vocab)
        branch = model.config.decoder(branch)
        shapes = param_shapes(model, run.config.data)
        choice = choose_params(run.checkpoints, shapes, checkpoint, average)
        return cls(run, choice.params, choice.steps[0], branch, choice.why)

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}({str(self.run.path)!r}, branch={self.branch!r}, '
            f'step={self.step}, {len(self.run.vocab)} words, {self.mesh.size} device(s))'
        )

    def __call__(
        self,
        features: Mapping[str, np.ndarray],
        *,
        beam_size: int | None = None,
        length_penalty: float | None = None,
    ) -> list[str]:
        """Caption B clips, one caption for each.

        Args:
          features: appearance (B, T, C2), motion (B, T, C3), object (B, T, N, Co), box
            (B, T, N, 4) and object_mask (B, T, N), as the run's extractor makes them; the scene
            branch only needs the first two.
          beam_size: the run's own by default; 1 is greedy.
          length_penalty: the run's own by default.

        Raises:
          UserError: an array is missing, has another shape than the run's, or holds NaN or Inf.
        """
        # One hypothesis is enough here; a larger num_best would keep more prefixes alive.
        token_BKL = self.search(features, beam_size, length_penalty).token_BKL
        return [self.run.vocab.decode(token_L) for token_L in np.asarray(token_BKL)[:, 0]]

    def caption_clips(self, clips: Sequence[Clip], **options: Any) -> list[str]:
        """Caption clips, one caption for each; objects are padded or cut to the run's N."""
        objects = self.run.config.data.objects
        return self(stack_clips(clips, objects), **options)

    @property
    def is_deployed(self) -> bool:
        """Whether this is the branch that the run is trained to deploy."""
        return self.branch == self.model.config.decoder()

    def search_options(
        self, beam_size: int | None = None, length_penalty: float | None = None
    ) -> dict[str, Any]:
        """Fill in the run's own search settings where none are given."""
        config = self.run.config.decode
        return {
            'beam_size': config.beam_size if beam_size is None else beam_size,
            'length_penalty': config.length_penalty if length_penalty is None else length_penalty,
        }

    def search(
        self,
        features: Mapping[str, np.ndarray],
        beam_size: int | None = None,
        length_penalty: float | None = None,
        num_best: int = 1,
    ) -> Hypotheses:
        """Search for the `num_best` captions of each clip; the arguments are those of a call."""
        program = self.search_program(beam_size, length_penalty, num_best)
        return on_all_devices(program, self.params, self.inputs(features), self.mesh)

    def sample(
        self,
        features: Mapping[str, np.ndarray],
        number: int,
        *,
        temperature: float,
        seed: int,
        length_penalty: float | None = None,
    ) -> Hypotheses:
        """Draw `number` captions of each clip at random, see `decode.sampling`."""
        program = self._sampling_program(number, temperature, length_penalty)
        # The seed is an argument of the program, so that another seed compiles nothing.
        params_and_seed = self.params, replicate(np.uint32(seed), self.mesh)
        return on_all_devices(program, params_and_seed, self.inputs(features), self.mesh)

    @functools.lru_cache(maxsize=8)  # noqa: B019 - a captioner lives as long as its programs
    def search_program(
        self,
        beam_size: int | None = None,
        length_penalty: float | None = None,
        num_best: int = 1,
    ) -> ClipFn:
        """Build the jitted `search(params, batch)`, mapped over the devices."""
        options = self.search_options(beam_size, length_penalty) | {'num_best': num_best}
        return mapped_search(self.model, self.mesh, branch=self.branch, **options)

    @functools.lru_cache(maxsize=8)  # noqa: B019 - as above
    def _sampling_program(
        self, number: int, temperature: float, length_penalty: float | None
    ) -> ClipFn:
        return mapped_sampler(
            self.model,
            self.mesh,
            branch=self.branch,
            num_samples=number,
            temperature=temperature,
            length_penalty=self.search_options(None, length_penalty)['length_penalty'],
        )

    def input_shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Return the shapes of one clip's features that this branch reads."""
        shapes = feature_shapes(self.run.config.data)
        # The student needs no detector at test time; objects are not even sent to the devices.
        if self.branch == 'scene':
            shapes = {key: shapes[key] for key in SCENE_KEYS if key in shapes}
        return shapes

    def inputs(self, features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Select the features that this branch reads, and check their shapes and values.

        Raises:
          UserError: see `__call__`.
        """
        # On the devices a wrong shape would end in an error of XLA, NaN in a caption of random
        # words.
        shapes = self.input_shapes()
        for key, wanted in shapes.items():
            if key not in features:
                raise UserError(f'the features lack {key!r}; branch {self.branch} reads it')
            _check_feature(key, np.asarray(features[key]), wanted)
        return {key: np.asarray(features[key]) for key in shapes}


def _check_feature(key: str, value: np.ndarray, wanted: jax.ShapeDtypeStruct) -> None:
    if value.shape[1:] != wanted.shape:
        raise UserError(
            f'{key} has shape {value.shape}, but this run reads '
            f'(B, {", ".join(map(str, wanted.shape))})'
        )
    finite_B = np.isfinite(value).all(axis=tuple(range(1, value.ndim)))
    if not finite_B.all():
        raise UserError(f'{key} of clip {finite_B.argmin()} of the batch has NaN or Inf')


def stack_clips(clips: Sequence[Clip], num_objects: int) -> dict[str, np.ndarray]:
    """Stack clips into a batch of features, objects padded or cut to `num_objects` a frame."""

    # Detectors give any number of objects a frame, XLA programs have one shape. Objects are sorted
    # by score, so the least certain ones are cut.
    def fit(value: np.ndarray) -> np.ndarray:
        value = value[:, :num_objects]
        padding = [(0, 0), (0, num_objects - value.shape[1])] + [(0, 0)] * (value.ndim - 2)
        return np.pad(value, padding)

    keys = [key for key in SCENE_KEYS if getattr(clips[0], key) is not None]
    batch = {key: np.stack([getattr(clip, key) for clip in clips]) for key in keys}
    return batch | {
        key: np.stack([fit(getattr(clip, key)) for clip in clips])
        for key in ('object', 'box', 'object_mask')
    }
