"""A maker that kills its own process; light to import, as every process that starts anew does."""

import os
import signal

import numpy as np

from stg_jax.data.clip import Clip, no_objects


class DeadlyMaker:
    """Makes a clip of zeros of every request, and dies of those called deadly."""

    settings = {}  # noqa: RUF012 - as `work.Maker` wants it

    def __init__(self, deadly):
        self._deadly = deadly

    def load(self, chunk):
        for request in chunk:
            if request.clip_id in self._deadly:
                os.kill(os.getpid(), signal.SIGKILL)

    def make(self, chunk, loaded):
        zeros = np.zeros((1, 1), np.float32)
        return [
            Clip(
                id=request.clip_id,
                captions=request.captions,
                appearance=zeros,
                motion=zeros,
                **no_objects(1, 1, 1),
                true_box=np.zeros((1, 0, 4), np.float32),
            )
            for request in chunk
        ]
