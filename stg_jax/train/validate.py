"""Compute the loss and CIDEr of the current parameters on the validation split."""

import collections
from typing import Any

import jax

from stg_jax.data.batches import Clips, empty_batch
from stg_jax.data.captions import read_captions
from stg_jax.decode.generate import mapped_search
from stg_jax.decode.split import best_captions, clips_per_batch, gather_captions, split_batches
from stg_jax.evaluate.fast_metrics import PreparedReferences
from stg_jax.parallel import mapped, processes, sharding
from stg_jax.parallel.precompile import Precompiler
from stg_jax.run.folder import RunFolder
from stg_jax.train.plan import Plan
from stg_jax.train.step import make_eval_step, mean_terms

SPLIT = 'val'
PyTree = Any


class Validator:
    """Scores parameters on the validation clips, with the branch that will be deployed.

    Args:
      run: gives the config and the vocabulary.
      plan: gives the network and the devices.
      clips: of the validation split.
      programs: compiles.
    """

    def __init__(self, run: RunFolder, plan: Plan, clips: Clips, programs: Precompiler):
        self._run, self._mesh, self._loss = run, plan.mesh, run.config.loss
        self._clips, self._programs = clips, programs
        self._features = mapped.Features(clips.take_table(), plan.mesh)
        self._references = PreparedReferences(read_captions(run.config.data.dir, SPLIT))
        eval_step = make_eval_step(plan.model, run.config.loss)
        self._eval_step = mapped.summed_over_clips(eval_step, plan.mesh)
        # Greedy: epochs only have to be comparable, and a beam search takes several times as long.
        self._search = mapped_search(
            plan.model,
            plan.mesh,
            branch=plan.model.config.decoder(),
            beam_size=1,
            length_penalty=0.0,
        )

    def expect(self, params: PyTree) -> None:
        """Start to compile the programs of a validation, before the first one."""
        size = clips_per_batch(self._clips, self._mesh, self._run.config.decode.batch_size)
        batch = empty_batch(self._clips, size // processes.num_hosts())
        on_devices = self._on_devices(batch)
        self._programs.expect(self._eval_step, params, on_devices)
        self._programs.expect(self._search, params, on_devices)

    def __call__(self, params: PyTree) -> dict[str, float]:
        """Compute 'val_loss', its terms, and BLEU-4 and CIDEr of greedy captions, times 100."""
        # Sums, not means: batches and hosts have different numbers of tokens.
        sums, captions = collections.Counter(), {}
        batches = split_batches(self._clips, self._mesh, self._run.config.decode.batch_size)
        for batch in batches:
            on_devices = self._on_devices(batch)
            sums.update(jax.device_get(self._programs.call(self._eval_step, params, on_devices)))
            found = self._programs.call(self._search, params, on_devices)
            hypotheses = jax.tree.map(sharding.local_rows, found)
            captions |= best_captions(batch['id'], hypotheses, self._run.vocab)
        means = mean_terms(sums, self._loss)
        scores = {f'val_{key}': float(value) for key, value in means.items()}
        predictions = gather_captions(captions)
        # On one host: CIDEr weighs n-grams by how many clips of the whole split use them.
        found = processes.on_first(lambda: self._references.score(predictions))
        return scores | {'val_bleu4': found['BLEU-4'], 'val_cider': found['CIDEr']}

    def _on_devices(self, batch: dict) -> dict[str, jax.Array]:
        return self._features.of(sharding.shard_batch(batch, self._mesh))
