"""What one of several hosts does of an evaluation."""

import dataclasses
from collections.abc import Callable, Iterator

from stg_jax.data.batches import Batch, Clips, eval_batches, even_batch_size

Captions = dict[str, str]


@dataclasses.dataclass(frozen=True)
class Share:
    """One host's part of the clips; by default there is no other host.

    Attributes:
      host: number of this host; host 0 scores.
      num_hosts: hosts that decode.
      gather: returns the captions of all hosts, given those of this one.
    """

    host: int = 0
    num_hosts: int = 1
    gather: Callable[[Captions], list[Captions]] = lambda captions: [captions]

    def batches(self, clips: Clips, most: int) -> Iterator[Batch]:
        """Yield this host's clips in batches of at most so many, as many as on any other host."""
        num_clips, num_hosts = clips.source.part.num_clips, self.num_hosts
        return eval_batches(
            clips,
            clips_per_batch=even_batch_size(num_clips, most * num_hosts, num_hosts),
            host=self.host,
            num_hosts=num_hosts,
        )

    def joined(self, captions: Captions) -> Captions | None:
        """Return the captions of all hosts on host 0, None on the others."""
        parts = self.gather(captions)
        if self.host:
            return None
        return {clip_id: caption for part in parts for clip_id, caption in part.items()}
