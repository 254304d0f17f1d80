"""Batches of concurrent questions."""

import dataclasses

import numpy as np
import pytest

from stg_jax.decode.candidates import best_candidates
from stg_jax.errors import UserError
from tests.fakes import fake_data
from tests.fakes.fake_service import fake_video_captioner

pytest.importorskip('prometheus_client', reason='the extra serve is absent')
from stg_jax.serve.batcher import Batcher, Question, batch_sizes

CLIPS = fake_data.fake_clips(5)


def ask(clips, max_batch=4, cancelled=()):
    """Queue all clips before the first is answered; return the futures and the sizes of batches."""
    sizes = []
    batcher = Batcher(fake_video_captioner(), max_batch, lambda size, stages: sizes.append(size))
    futures = [batcher.submit(Question(clip)) for clip in clips]
    for i in cancelled:
        assert futures[i].cancel()
    batcher.start()
    batcher.close()  # answers what is queued
    assert not batcher.is_alive
    return futures, sizes


def test_what_has_arrived_is_captioned_together_as_it_would_be_alone():
    futures, sizes = ask(CLIPS)
    assert sizes == [4, 1]
    for clip, future in zip(CLIPS, futures, strict=True):
        (expected,) = best_candidates(fake_video_captioner(), [clip])
        found = future.result().captioned.candidates
        assert [each.caption for each in found] == [each.caption for each in expected]


def test_a_clip_that_fails_fails_by_itself():
    broken = dataclasses.replace(CLIPS[1], motion=np.full_like(CLIPS[1].motion, np.nan))
    futures, sizes = ask([CLIPS[0], broken, CLIPS[2]])
    assert sizes == [1, 1]
    with pytest.raises(UserError, match='NaN'):
        futures[1].result()
    assert all(futures[i].result().captioned.candidates for i in (0, 2))


def test_a_cancelled_question_is_skipped():
    futures, sizes = ask(CLIPS[:3], cancelled=[1])
    assert sizes == [2]
    assert futures[1].cancelled() and futures[2].result()


def test_sizes_are_powers_of_four_and_the_largest_batch():
    assert batch_sizes(1) == [1]
    assert batch_sizes(16) == [1, 4, 16]
    assert batch_sizes(6) == [1, 4, 6]
