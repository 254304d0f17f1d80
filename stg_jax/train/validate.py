"""Loss and CIDEr of the current parameters on the validation split."""

import collections
from concurrent.futures import Executor
from typing import Any

import jax

from stg_jax.data.batches import Clips, empty_batch, eval_batches, even_batch_size
from stg_jax.data.captions import read_captions
from stg_jax.decode.candidates import best_captions
from stg_jax.decode.generate import make_decode_fn
from stg_jax.evaluate.fast_metrics import PreparedReferences
from stg_jax.parallel import mapped, processes, sharding
from stg_jax.parallel.precompile import Ahead
from stg_jax.run.folder import RunFolder
from stg_jax.train.plan import Plan
from stg_jax.train.step import make_eval_step, mean_terms

SPLIT = 'val'
PyTree = Any


class Validator:
    """Score parameters on clips with references, with the branch that will be deployed."""

    def __init__(self, run: RunFolder, plan: Plan, clips: Clips, threads: Executor):
        self._run, self._mesh, self._loss_spec = run, plan.mesh, plan.loss_spec
        self._clips = clips
        self._features = mapped.Features(clips.take_table(), plan.mesh)
        self._references = PreparedReferences(read_captions(run.config.data.dir, SPLIT))
        eval_step = make_eval_step(plan.model, plan.loss_spec)
        self._eval_step = Ahead(mapped.summed_over_clips(eval_step, plan.mesh), threads)
        # Greedy: the choice among epochs needs a comparable score, not the best caption.
        decode = make_decode_fn(
            plan.model, branch=plan.model.spec.decoder(), beam_size=1, length_penalty=0.0
        )
        self._decode = Ahead(mapped.mapped_over_clips(decode, plan.mesh), threads)
        self._clips_per_batch = even_batch_size(
            clips.source.part.num_clips, run.config.decode.batch_size, plan.mesh.size
        )

    def expect(self, params: PyTree) -> None:
        """Begin to compile what a call takes."""
        batch = empty_batch(self._clips, self._clips_per_batch // processes.num_hosts())
        on_devices = self._on_devices(batch)
        self._eval_step.expect(params, on_devices)
        self._decode.expect(params, on_devices)

    def __call__(self, params: PyTree) -> dict[str, float]:
        """Return 'val_loss', its terms, and 'val_cider' of greedy captions (x 100)."""
        sums, captions = collections.Counter(), {}
        batches = eval_batches(
            self._clips,
            clips_per_batch=self._clips_per_batch,
            host=processes.host(),
            num_hosts=processes.num_hosts(),
        )
        for batch in batches:
            on_devices = self._on_devices(batch)
            sums.update(jax.device_get(self._eval_step(params, on_devices)))
            hypotheses = jax.tree.map(sharding.local_rows, self._decode(params, on_devices))
            captions |= best_captions(batch['id'], hypotheses, self._run.vocab)
        means = mean_terms(sums, self._loss_spec)
        scores = {f'val_{key}': float(value) for key, value in means.items()}
        predictions = dict(item for part in processes.gather(captions) for item in part.items())
        cider = processes.on_first(lambda: self._references.score(predictions)['CIDEr'])
        return scores | {'val_cider': cider}

    def _on_devices(self, batch: dict) -> dict[str, jax.Array]:
        return self._features.of(sharding.shard_batch(batch, self._mesh))
