"""From features to captions with a trained run.

captioner = Captioner.load('runs/msvd')
captions = captioner(features)
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from stg_jax.data.clip import Clip
from stg_jax.decode.beam import Hypotheses
from stg_jax.decode.generate import make_decode_fn, make_sample_fn
from stg_jax.errors import UserError
from stg_jax.run.build import build_model, feature_shapes, param_shapes
from stg_jax.run.folder import RunFolder
from stg_jax.run.selection import choose_params

PyTree = Any

SCENE_KEYS = ('appearance', 'motion', 'grid')  # what the scene branch reads, the last one perhaps


class Captioner:
    """Caption batches of features with the parameters of a run.

    Attributes:
      run: the run folder that it came from.
      branch: name of the language decoder in use.
      model: the network.
      step: optimiser step of the parameters; of an average, that of the best.
      why: one sentence on how the parameters were chosen.
    """

    def __init__(
        self, run: RunFolder, params: PyTree, step: int, branch: str, why: str = 'given by hand'
    ):
        self.run = run
        self.params = params
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
    ) -> 'Captioner':
        """Load a run.

        Args:
          workdir: folder that `launch/train.py` wrote.
          branch: 'scene' (the deployed student, needs no objects), 'object' (the teacher) or
            'joint'; the run's deployed one by default.
          checkpoint: 'best' on validation, 'latest', or a step number.
          average: takes the mean of the parameters of so many checkpoints, the best on validation.

        Raises:
          UserError: no run, no such branch, or no readable checkpoint.
        """
        run = RunFolder.open(workdir)
        model = build_model(run.config, run.manifest, run.vocab)
        branch = model.spec.decoder(branch)
        shapes = param_shapes(model, run.config)
        choice = choose_params(run.checkpoints, shapes, checkpoint, average)
        return cls(run, choice.params, choice.steps[0], branch, choice.why)

    def __call__(
        self,
        features: Mapping[str, np.ndarray],
        *,
        beam_size: int | None = None,
        length_penalty: float | None = None,
    ) -> list[str]:
        """Return one caption for each of B clips.

        Args:
          features: appearance (B, T, C2), motion (B, T, C3), object (B, T, N, Co), box
            (B, T, N, 4) and object_mask (B, T, N), as the run's extractor makes them; for the
            scene branch the first two suffice.
          beam_size: as in the run's config unless given; 1 is greedy.
          length_penalty: as in the run's config unless given.

        Raises:
          UserError: an array is missing, has another shape than the run's, or holds NaN or Inf.
        """
        decode = self.decode_fn(beam_size, length_penalty)
        return self.words(decode(self.params, self.inputs(features)))

    def caption_clips(self, clips: Sequence[Clip], **search: Any) -> list[str]:
        """Return one caption for each clip; objects are padded or cut to the run's N."""
        objects = self.run.config.data.objects
        return self(stack_clips(clips, objects), **search)

    @property
    def is_deployed(self) -> bool:
        """Whether this is the branch that the run is trained to deploy."""
        return self.branch == self.model.spec.decoder()

    def search(
        self, beam_size: int | None = None, length_penalty: float | None = None
    ) -> dict[str, Any]:
        """Return the settings of a search, those of the run's config where none are given."""
        config = self.run.config.decode
        return {
            'beam_size': config.beam_size if beam_size is None else beam_size,
            'length_penalty': config.length_penalty if length_penalty is None else length_penalty,
        }

    @functools.lru_cache(maxsize=8)  # noqa: B019 - a captioner lives as long as its functions
    def decode_fn(
        self,
        beam_size: int | None = None,
        length_penalty: float | None = None,
        num_best: int = 1,
    ) -> Callable[[PyTree, Mapping[str, jax.Array]], Hypotheses]:
        """Return the jitted `decode(params, batch)` of a search for `num_best` captions a clip."""
        search = self.search(beam_size, length_penalty) | {'num_best': num_best}
        return jax.jit(make_decode_fn(self.model, branch=self.branch, **search))

    @functools.lru_cache(maxsize=8)  # noqa: B019 - as above
    def sample_fn(
        self, num_samples: int, temperature: float, length_penalty: float | None = None
    ) -> Callable[[PyTree, Mapping[str, jax.Array], int], Hypotheses]:
        """Return the jitted `draw(params, batch, seed)`, see `decode.sample`."""
        options = {'num_samples': num_samples, 'temperature': temperature}
        options['length_penalty'] = self.search(None, length_penalty)['length_penalty']
        return jax.jit(make_sample_fn(self.model, branch=self.branch, **options))

    def words(self, hypotheses: Hypotheses) -> list[str]:
        """Return the best caption of every clip."""
        best_BL = np.asarray(hypotheses.token_BKL)[:, 0]
        return [self.run.vocab.decode(token_L) for token_L in best_BL]

    def inputs(self, features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return what this branch reads of a batch of features, its shapes checked.

        Raises:
          UserError: see `__call__`.
        """
        shapes = feature_shapes(self.run.config)
        if self.branch == 'scene':
            shapes = {key: shapes[key] for key in SCENE_KEYS if key in shapes}
        for key, wanted in shapes.items():
            if key not in features:
                raise UserError(f'the features lack {key!r}; branch {self.branch} reads it')
            if features[key].shape[1:] != wanted.shape:
                raise UserError(
                    f'{key} has shape {features[key].shape}, but this run reads '
                    f'(B, {", ".join(map(str, wanted.shape))})'
                )
            finite_B = np.isfinite(features[key]).all(axis=tuple(range(1, features[key].ndim)))
            if not finite_B.all():
                raise UserError(f'{key} of clip {finite_B.argmin()} of the batch has NaN or Inf')
        return {key: features[key] for key in shapes}


def stack_clips(clips: Sequence[Clip], num_objects: int) -> dict[str, np.ndarray]:
    """Stack clips into a batch of features, objects padded or cut to `num_objects` a frame."""

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
