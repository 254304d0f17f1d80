"""Several trained runs that write one caption together.

A word's score is the mean of its log-probabilities under all members, so that the score of a
caption is the mean of its scores; the search sees one model.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stg_jax.data.vocab import PAD
from stg_jax.decode.beam import Hypotheses, LogitsFn, beam_search
from stg_jax.decode.captioner import Captioner
from stg_jax.decode.generate import read_clips
from stg_jax.errors import UserError
from stg_jax.run.build import feature_shapes

PyTree = Any


class Ensemble:
    """Caption with several runs; their data, vocabulary and branch must be the same.

    Attributes:
      members: the captioners.
      run: the run folder of the first member, whose search and batch size count.
      branch: name of the language decoder in use.
      params: of every member.
    """

    def __init__(self, members: Sequence[Captioner]):
        """Check that the members fit together.

        Raises:
          UserError: they do not.
        """
        first = members[0]
        for member in members[1:]:
            if member.run.vocab.words != first.run.vocab.words:
                _refuse(first, member, 'their vocabularies')
            if feature_shapes(member.run.config) != feature_shapes(first.run.config):
                _refuse(first, member, 'the shapes of their features')
            if member.run.config.data.max_words != first.run.config.data.max_words:
                _refuse(first, member, 'config.data.max_words')
            if member.branch != first.branch:
                _refuse(first, member, 'their branches')
        self.members = tuple(members)
        self.run, self.branch = first.run, first.branch
        self.params = tuple(member.params for member in members)

    @classmethod
    def load(cls, workdirs: Sequence[str | Path], **options: Any) -> 'Ensemble':
        """Load runs; `options` are those of `Captioner.load`.

        Raises:
          UserError: a run cannot be loaded, or they do not fit together.
        """
        return cls([Captioner.load(workdir, **options) for workdir in workdirs])

    @property
    def is_deployed(self) -> bool:
        """Whether this is the branch that the first run is trained to deploy."""
        return self.members[0].is_deployed

    def search(self, *search: Any) -> dict[str, Any]:
        """Return the settings of a search, see `Captioner.search`."""
        return self.members[0].search(*search)

    def inputs(self, features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return what the branch reads of a batch, see `Captioner.inputs`."""
        return self.members[0].inputs(features)

    @functools.lru_cache(maxsize=8)  # noqa: B019 - an ensemble lives as long as its functions
    def decode_fn(
        self,
        beam_size: int | None = None,
        length_penalty: float | None = None,
        num_best: int = 1,
    ) -> Callable[[PyTree, Mapping[str, jax.Array]], Hypotheses]:
        """Return the jitted `decode(params, batch)`, see `Captioner.decode_fn`."""
        search = self.search(beam_size, length_penalty)
        models = [member.model for member in self.members]

        def decode(params: PyTree, batch: Mapping[str, jax.Array]) -> Hypotheses:
            read = [
                read_clips(model, each, batch, self.branch, search['beam_size'])
                for model, each in zip(models, params, strict=True)
            ]
            return beam_search(
                joint_logits_fn([logits_fn for logits_fn, _ in read]),
                tuple(cache for _, cache in read),
                batch_size=batch['appearance'].shape[0],
                max_words=self.run.config.data.max_words,
                num_best=num_best,
                **search,
            )

        return jax.jit(decode)


def joint_logits_fn(logits_fns: Sequence[LogitsFn]) -> LogitsFn:
    """Return one model whose log-probabilities are the mean of those of several.

    Its cache and its entries are tuples of theirs.
    """

    def logits_fn(prefixes, position, cache):
        found = [fn(prefixes, position, each) for fn, each in zip(logits_fns, cache, strict=True)]
        logp_RV = sum(jax.nn.log_softmax(jnp.float32(logits_RV)) for logits_RV, _ in found)
        entry = tuple(entry for _, entry in found)
        return _completed(logp_RV / len(found)), entry

    return logits_fn


def _completed(logp_RV: jax.Array) -> jax.Array:
    """Give PAD, which no search ever chooses, what the mean's probabilities lack of one.

    A search normalises logits. Members that disagree leave less than one to share; without this
    the words would share that too, and score more than their mean.
    """
    others_R = jnp.sum(jnp.exp(logp_RV.at[:, PAD].set(-jnp.inf)), axis=-1)
    return logp_RV.at[:, PAD].set(jnp.log(jnp.maximum(1 - others_R, 0)))


def _refuse(first: Captioner, other: Captioner, what: str) -> None:
    raise UserError(f'{first.run.path} and {other.run.path} cannot form an ensemble: {what} differ')
