"""Name the clips that may have made the loss of a step infinite or NaN."""

import numpy as np

from stg_jax.data.batches import Batch
from stg_jax.parallel import processes


def name_suspects(batch: Batch) -> str:
    """Name the clips of a batch whose features are NaN or infinite; all of them if none are.

    Called on all hosts, each with its rows of the batch: the bad clip may be on another host.
    """
    bad = [
        f'clip {clip_id} has NaN or Inf in {kind}'
        for kind in ('appearance', 'motion', 'object', 'grid', 'box')
        if kind in batch  # absent if the features are only on the devices
        for clip_id, value in zip(batch['id'], batch[kind], strict=True)
        if not np.isfinite(value).all()
    ]
    # Ids of padding clips are empty.
    found = processes.gather([bad, list(filter(None, batch['id']))])
    if any(names for names, _ in found):
        return ', '.join(name for names, _ in found for name in names)
    known = ', all with finite features,' if 'appearance' in batch else ''
    return f'its clips{known} are {", ".join(i for _, ids in found for i in ids)}'
