"""Makers of random clips, in a file of their own that each new process imports quickly."""

import dataclasses
import os
import signal
import time
from pathlib import Path

import numpy as np

from stg_jax.data.clip import Clip, no_objects
from stg_jax.errors import UserError
from stg_jax.prepare import workers
from tests.fakes.fake_data import fake_clips


class NumberMaker:
    """Makes a random clip of every request, but of those called bad; counts the chunks it made."""

    def __init__(self, bad=(), **settings):
        self.settings = settings
        self.bad = bad
        self.made = 0

    def load(self, chunk):
        return [request.clip_id for request in chunk]

    def make(self, chunk, loaded):
        assert loaded == [request.clip_id for request in chunk]
        self.made += 1
        return [workers.attempt(self._clip, request) for request in chunk]

    def _clip(self, request):
        if request.clip_id in self.bad:
            raise UserError(f'{request.path} is bad')
        (clip,) = fake_clips(1, seed=int(request.clip_id[1:]))
        return dataclasses.replace(clip, id=request.clip_id, captions=request.captions)


class DeadlyMaker:
    """Makes a clip of zeros of every request, and kills its process at those called deadly."""

    settings = {}  # noqa: RUF012 - as `workers.Maker` wants it

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


class WaitingMaker:
    """Writes the number of its process to a folder, and never ends."""

    def __init__(self, folder):
        self.settings = {'folder': str(folder)}

    def load(self, chunk):
        Path(self.settings['folder'], str(os.getpid())).touch()
        time.sleep(600)

    def make(self, chunk, loaded):
        raise AssertionError('it never ends')
