"""Captions of a whole split: every host reads its part of the clips, all devices decode."""

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from stg_jax.data.batches import Batch, Clips, eval_batches, even_batch_size
from stg_jax.data.vocab import Vocabulary
from stg_jax.decode.beam import Hypotheses
from stg_jax.parallel import processes
from stg_jax.parallel.sharding import Mesh


def clips_per_batch(clips: Clips, mesh: Mesh, per_device: int) -> int:
    """Choose the size of a global batch: at most `per_device` clips on each device.

    Batches are few and of about equal size, because a row of padding costs as much as a clip.
    """
    # Per device, because that is what limits it: the memory of one device.
    return even_batch_size(clips.source.part.num_clips, per_device * mesh.size, mesh.size)


def split_batches(clips: Clips, mesh: Mesh, per_device: int) -> Iterator[Batch]:
    """Yield this host's rows of every batch of a split; all hosts yield the same number."""
    return eval_batches(
        clips,
        clips_per_batch=clips_per_batch(clips, mesh, per_device),
        host=processes.host(),
        num_hosts=processes.num_hosts(),
    )


def predict(
    search: Callable[[Batch], Hypotheses], batches: Iterable[Batch], vocab: Vocabulary
) -> dict[str, str]:
    """Decode the batches of a split and collect the captions of all hosts, by clip id."""
    own: dict[str, str] = {}
    # Hosts only exchange captions after the last batch: they are some kilobytes of text.
    for batch in batches:
        own |= best_captions(batch['id'], search(batch), vocab)
    return gather_captions(own)


def best_captions(ids: np.ndarray, hypotheses: Hypotheses, vocab: Vocabulary) -> dict[str, str]:
    """Pick the best caption of each real clip of a batch; padding clips have no id."""
    best_BL = np.asarray(hypotheses.token_BKL)[:, 0]
    return {
        clip_id: vocab.decode(token_L)
        for clip_id, token_L in zip(ids, best_BL, strict=True)
        if clip_id
    }


def gather_captions(own: Mapping[str, str]) -> dict[str, str]:
    """Merge the captions that the hosts have decoded; every host gets all of them."""
    return {
        clip_id: caption
        for captions in processes.gather(own)
        for clip_id, caption in captions.items()
    }
