"""Start training from the parameters of another run, whose vocabulary may differ."""

import dataclasses
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from stg_jax.data.vocab import Vocabulary
from stg_jax.errors import UserError
from stg_jax.run.build import build_model, param_shapes
from stg_jax.run.folder import RunFolder
from stg_jax.run.selection import choose_params
from stg_jax.run.trees import describe_misfit, shapes_by_name

PyTree = Any
# Suffix of the names of arrays with one row for each word; see `model.language_decoder`.
_WORD_VECTORS = 'embed/embedding'


@dataclasses.dataclass(frozen=True)
class WarmStart:
    """A run to start from, whose parameters have not been read yet."""

    run: RunFolder
    shapes: PyTree

    @classmethod
    def open(cls, source: str, params: PyTree) -> 'WarmStart':
        """Open a run, an exported model or hf://USER/NAME, and check that it fits.

        Args:
          source: its path or address.
          params: parameters, or their shapes, of the network that will be trained.

        Raises:
          UserError: it cannot be read, or lacks arrays of the network.
        """
        run = RunFolder.open(source)
        shapes = param_shapes(build_model(run.config, run.manifest, run.vocab), run.config.data)
        theirs, ours = _comparable(shapes), _comparable(params)
        # A branch that the new network does not have is left out.
        theirs = {name: theirs[name] for name in theirs if name in ours}
        if misfit := describe_misfit(theirs, ours):
            raise UserError(
                f'{source} cannot start this training ({misfit}): use its config.model, and '
                'features of the same widths'
            )
        return cls(run, shapes)

    def params(self, fresh: PyTree, vocab: Vocabulary) -> PyTree:
        """Read the parameters; words that the run does not know keep their `fresh` vectors.

        Args:
          fresh: initial parameters of the network that will be trained.
          vocab: the vocabulary of that network.

        Raises:
          UserError: the checkpoints of the run cannot be read.
        """
        chosen = choose_params(self.run.checkpoints, self.shapes)
        theirs: dict[str, Any] = flatten_dict(chosen.params, sep='/')
        known = {word: row for row, word in enumerate(self.run.vocab.words)}
        pairs = [(row, known[word]) for row, word in enumerate(vocab.words) if word in known]
        ours, from_theirs = (list(rows) for rows in zip(*pairs, strict=True))

        def start(name: str, value: Any) -> np.ndarray:
            if not name.endswith(_WORD_VECTORS):
                return theirs[name]
            vectors = np.array(value)
            vectors[ours] = theirs[name][from_theirs]
            return vectors

        drawn: dict[str, Any] = flatten_dict(jax.device_get(fresh), sep='/')
        return unflatten_dict({name: start(name, x) for name, x in drawn.items()}, sep='/')


def _comparable(params: PyTree) -> dict[str, tuple[int, ...]]:
    """Return the shape of each array, without the axis of words."""
    shapes = shapes_by_name(params)
    return {
        name: shape[1:] if name.endswith(_WORD_VECTORS) else shape for name, shape in shapes.items()
    }
