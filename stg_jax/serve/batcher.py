"""Caption the clips of concurrent requests, in batches of whatever has arrived."""

import dataclasses
import queue
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np

from stg_jax.captioning.caption_video import Captioned, small_frames
from stg_jax.captioning.explained import explain_captioned
from stg_jax.captioning.video_captioner import VideoCaptioner
from stg_jax.data.clip import Clip
from stg_jax.decode.candidates import Candidate, best_candidates
from stg_jax.errors import UserError
from stg_jax.extract.base import Stages, to_clip
from stg_jax.extract.video.frames import Video
from stg_jax.run.build import feature_shapes
from stg_jax.serve.uploads import as_clip
from stg_jax.visualize import ReportEntry

_BLANK = np.full((180, 320, 3), 96, np.uint8)  # shown for a frame if only features were sent


@dataclasses.dataclass(frozen=True)
class Question:
    """One clip to caption.

    Attributes:
      source: sampled frames, or the features of a clip.
      explain: whether an explanation is wanted.
    """

    source: Video | Clip
    explain: bool = False


@dataclasses.dataclass(frozen=True)
class Answer:
    """The captions of a clip, and an explanation of the best one if the question wants it."""

    captioned: Captioned
    explanation: ReportEntry | None = None


@dataclasses.dataclass(frozen=True)
class _Waiting:
    question: Question
    future: Future[Answer]


class Batcher:
    """Captions clips of concurrent callers in one thread, several at a time.

    While a batch is on the devices, the next one gathers, so that nobody waits for a batch to fill
    up and a busy server still runs full ones. A clip that cannot be captioned fails by itself.

    Args:
      captioner: must not caption anything else once the thread has started.
      max_batch: maximum number of clips in a batch.
      on_batch: called after each batch with its number of clips and the seconds of its stages.

    Attributes:
      max_batch: maximum number of clips in a batch.
    """

    def __init__(
        self,
        captioner: VideoCaptioner,
        max_batch: int,
        on_batch: Callable[[int, Stages], None] = lambda *_: None,
    ):
        self._captioner = captioner
        self.max_batch = max_batch
        self._on_batch = on_batch
        # None ends the thread. Callers bound the number of waiting questions.
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name='captions', daemon=True)

    def warm_up(self) -> None:
        """Load and compile everything but explanations, so that no request waits for it."""
        data = self._captioner.run.config.data
        blank = {key: np.zeros(x.shape, x.dtype) for key, x in feature_shapes(data).items()}
        for size in batch_sizes(self.max_batch):
            best_candidates(self._captioner, [as_clip(blank, data)] * size)
        try:
            sampling = self._captioner.extractor.sampling
        except UserError as error:
            print(f'only features can be captioned: {error}', file=sys.stderr)
        else:
            self._captioner.extractor.describe([_blank_video(**sampling)])

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether questions are answered."""
        return self._thread.is_alive()

    def submit(self, question: Question) -> Future[Answer]:
        """Queue a clip; the future can be cancelled until its batch begins."""
        waiting = _Waiting(question, Future())
        self._queue.put(waiting)
        return waiting.future

    def close(self) -> None:
        """Answer what is queued, then end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        is_open = True
        while is_open:
            batch = [self._queue.get()]
            while len(batch) < self.max_batch and not self._queue.empty():
                batch.append(self._queue.get())
            is_open = None not in batch
            wanted = [each for each in batch if each and each.future.set_running_or_notify_cancel()]
            if wanted:
                self._answer(wanted)

    def _answer(self, batch: Sequence[_Waiting]) -> None:
        stages = Stages()
        try:
            found = self._caption([each.question for each in batch], stages)
        except Exception as error:
            if len(batch) == 1:
                batch[0].future.set_exception(error)
            else:
                # Retry one by one, so that only the clip at fault fails.
                for each in batch:
                    self._answer([each])
            return
        self._on_batch(len(batch), stages)
        to_explain = [pair for pair in zip(batch, found, strict=True) if pair[0].question.explain]
        for waiting, captioned in zip(batch, found, strict=True):
            if not waiting.question.explain:
                waiting.future.set_result(Answer(captioned))
        # An explanation takes many passes of the network: plain captions do not wait for it.
        for waiting, captioned in to_explain:
            self._explain(waiting, captioned)

    def _explain(self, waiting: _Waiting, captioned: Captioned) -> None:
        try:
            with captioned.stages.measure('explain'):
                entry = explain_captioned(self._captioner, captioned, is_segment=False)
        except Exception as error:
            waiting.future.set_exception(error)
        else:
            waiting.future.set_result(Answer(captioned, entry))

    def _caption(self, questions: Sequence[Question], stages: Stages) -> list[Captioned]:
        """Describe all videos together, then caption all clips together."""
        sources = [question.source for question in questions]
        videos = [source for source in sources if isinstance(source, Video)]
        described = iter(self._captioner.extractor.describe(videos, stages) if videos else ())
        clips = [
            to_clip('video', (), source, next(described)) if isinstance(source, Video) else source
            for source in sources
        ]
        with stages.measure('caption'):
            found = best_candidates(self._captioner, _padded(clips, self.max_batch))[: len(clips)]
        return [
            self._captioned(*each, stages) for each in zip(questions, clips, found, strict=True)
        ]

    def _captioned(
        self, question: Question, clip: Clip, candidates: Sequence[Candidate], stages: Stages
    ) -> Captioned:
        own = Stages()  # those of the batch so far; the clip's own explanation may be added
        own.seconds |= stages.seconds
        video = question.source
        if isinstance(video, Clip):
            frames = [_BLANK] * len(clip.appearance)
            return Captioned(Path(clip.id), 0, 0, np.zeros(0), frames, clip, (), candidates, own)
        return Captioned(
            path=Path(clip.id),
            start=video.start,
            end=video.end,
            second_T=video.second_T,
            frames=small_frames(video) if question.explain else (),
            clip=clip,
            label_names=self._captioner.extractor.class_names,
            candidates=candidates,
            stages=own,
        )


def batch_sizes(max_batch: int) -> list[int]:
    """List the sizes to which batches are padded: powers of four, and `max_batch`."""
    # Compiling for every size would take long; always padding to the largest would compute up to
    # `max_batch` times too much.
    return [4**i for i in range(16) if 4**i < max_batch] + [max_batch]


def _padded(clips: Sequence[Clip], max_batch: int) -> Sequence[Clip]:
    """Repeat the last clip until the size is one of `batch_sizes`."""
    size = next(size for size in batch_sizes(max_batch) if size >= len(clips))
    return [*clips, *[clips[-1]] * (size - len(clips))]


def _blank_video(
    num_frames: int, context: int = 1, size: tuple[int, int] | None = None, **_: Any
) -> Video:
    """Make a black video as `read_frames` would return it."""
    height, width = size or _BLANK.shape[:2]
    index = np.arange(num_frames)
    return Video(
        np.zeros((num_frames, context, height, width, 3), np.uint8),
        index,
        second_T=index.astype(float),
        num_frames=num_frames,
        start=0.0,
        end=float(num_frames),
        fps=1.0,
        height=height,
        width=width,
    )
