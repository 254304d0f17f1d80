"""An ensemble of trained runs.

The log-probability of a word is the mean over all members, so the score of a caption is the mean of
its scores under them. The beam search sees one model.
"""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stg_jax.data.vocab import PAD
from stg_jax.decode.beam import Hypotheses, LogitsFn, beam_search
from stg_jax.decode.captioner import Captioner
from stg_jax.decode.generate import ClipFn, encode_clips
from stg_jax.errors import UserError
from stg_jax.parallel.mapped import mapped_over_clips, on_all_devices
from stg_jax.run.build import feature_shapes

PyTree = Any


class Ensemble:
    """Caption with several runs; their features, vocabulary and branch must be the same.

    Attributes:
      members: the captioners.
      run: the run folder of the first member, whose search settings and batch size are used.
      branch: name of the language decoder in use.
      mesh: all devices.
      params: the parameters of every member.
    """

    def __init__(self, members: Sequence[Captioner]):
        """Check that the members fit together.

        Raises:
          UserError: they do not.
        """
        first = members[0]
        for member in members[1:]:
            _check_fit(first, member)
        self.members = tuple(members)
        self.run, self.branch, self.mesh = first.run, first.branch, first.mesh
        self.params = tuple(member.params for member in members)

    @classmethod
    def load(cls, workdirs: Sequence[str | Path], **options: Any) -> 'Ensemble':
        """Load runs; `options` are those of `Captioner.load`.

        Raises:
          UserError: a run cannot be loaded, or the runs do not fit together.
        """
        return cls([Captioner.load(workdir, **options) for workdir in workdirs])

    def __repr__(self) -> str:
        return f'Ensemble([{", ".join(map(repr, self.members))}])'

    @property
    def is_deployed(self) -> bool:
        """Whether this is the branch that the first run is trained to deploy."""
        return self.members[0].is_deployed

    def search_options(self, *options: Any) -> dict[str, Any]:
        """Fill in the settings of a search, see `Captioner.search_options`."""
        return self.members[0].search_options(*options)

    def search(
        self,
        features: Mapping[str, np.ndarray],
        beam_size: int | None = None,
        length_penalty: float | None = None,
        num_best: int = 1,
    ) -> Hypotheses:
        """Search with the mean log-probabilities of all members, see `Captioner.search`."""
        program = self.search_program(beam_size, length_penalty, num_best)
        return on_all_devices(program, self.params, self.members[0].inputs(features), self.mesh)

    @functools.lru_cache(maxsize=8)  # noqa: B019 - an ensemble lives as long as its programs
    def search_program(
        self,
        beam_size: int | None = None,
        length_penalty: float | None = None,
        num_best: int = 1,
    ) -> ClipFn:
        """Build the jitted `search(params, batch)`, mapped over the devices."""
        options = self.search_options(beam_size, length_penalty)
        # Members may differ in every model setting, so each has a program of its own to encode.
        models = [member.model for member in self.members]

        def search(params: PyTree, batch: Mapping[str, jax.Array]) -> Hypotheses:
            encoded = [
                encode_clips(model, each, batch, self.branch, options['beam_size'])
                for model, each in zip(models, params, strict=True)
            ]
            # The caches of all members branch together, so one index table serves them all.
            return beam_search(
                joint_logits_fn([logits_fn for logits_fn, _ in encoded]),
                tuple(cache for _, cache in encoded),
                batch_size=batch['appearance'].shape[0],
                max_words=self.run.config.data.max_words,
                num_best=num_best,
                **options,
            )

        return mapped_over_clips(search, self.mesh)


def _check_fit(first: Captioner, other: Captioner) -> None:
    """Refuse runs whose words or features differ: their probabilities have no common meaning."""
    for what, is_same in (
        ('their vocabularies', first.run.vocab.words == other.run.vocab.words),
        (
            'the shapes of their features',
            feature_shapes(first.run.config.data) == feature_shapes(other.run.config.data),
        ),
        (
            'config.data.max_words',
            first.run.config.data.max_words == other.run.config.data.max_words,
        ),
        ('their branches', first.branch == other.branch),
    ):
        if not is_same:
            raise UserError(
                f'{first.run.path} and {other.run.path} cannot form an ensemble: {what} differ'
            )


def joint_logits_fn(logits_fns: Sequence[LogitsFn]) -> LogitsFn:
    """Combine several models into one whose log-probabilities are the mean of theirs.

    Its cache and its entries are tuples of theirs.
    """

    def logits_fn(prefixes, position, cache):
        found = [fn(prefixes, position, each) for fn, each in zip(logits_fns, cache, strict=True)]
        # Normalized per member: the mean of raw logits would weight members by their scale.
        logp_MRV = [jax.nn.log_softmax(jnp.float32(logits_RV)) for logits_RV, _ in found]
        entry = tuple(entry for _, entry in found)
        return _completed(jnp.mean(jnp.stack(logp_MRV), axis=0)), entry

    return logits_fn


def _completed(logp_RV: jax.Array) -> jax.Array:
    """Give the missing probability mass to PAD, which no search ever chooses.

    The mean of log-probabilities sums to less than one where members disagree. The search
    normalizes logits: without PAD, the words would share that mass and score above their mean.
    """
    # Clipped at 0 because the sum can exceed 1 by rounding.
    others_R = jnp.sum(jnp.exp(logp_RV.at[:, PAD].set(-jnp.inf)), axis=-1)
    return logp_RV.at[:, PAD].set(jnp.log(jnp.maximum(1 - others_R, 0)))
