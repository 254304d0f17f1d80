"""The HTTP interface: captions of videos and of features, health, metrics, an OpenAPI page.

curl --data-binary @my.mp4 http://127.0.0.1:8000/v1/captions/video
curl --data-binary @clip.npz 'http://127.0.0.1:8000/v1/captions/features?explain=data'
"""

import asyncio
import contextlib
import math
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal

import prometheus_client as prometheus
import uvicorn
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, Field

import stg_jax
from stg_jax.captioning.video_captioner import VideoCaptioner
from stg_jax.data.clip import Clip
from stg_jax.errors import UserError
from stg_jax.extract.base import Stages
from stg_jax.extract.video.frames import Video
from stg_jax.extract.video.untrusted import Limits, read_untrusted
from stg_jax.serve.batcher import Answer, Batcher, Question, batch_sizes
from stg_jax.serve.uploads import GONE, read_features, received
from stg_jax.visualize.explanation_page import render_page
from stg_jax.visualize.page_data import page_data

_LONGEST_PAUSE = 60  # largest Retry-After, in seconds

ReadFn = Callable[[Path], Video | Clip]
Explain = Annotated[
    Literal['none', 'data', 'page'],
    Query(description='Explain what each word came from: as data, or as an HTML page.'),
]


class Caption(BaseModel):
    """A caption and its log-probability divided by the length penalty."""

    caption: str
    score: float


class Answered(Caption):
    """The best caption of a clip, and all captions of the beam."""

    captions: list[Caption] = Field(description='All captions of the beam, best first.')
    start: float = Field(description='In seconds; 0 for features, as is `end`.')
    end: float
    seconds: dict[str, float] = Field(description='Time of each stage for the whole batch.')
    explanation: dict[str, Any] | None = Field(None, description='For explain=data.')
    page: str | None = Field(None, description='A whole HTML page, for explain=page.')


class Health(BaseModel):
    """Whether the server can caption, and with which parameters."""

    is_alive: bool
    run: str
    step: int


class Problem(BaseModel):
    """What is wrong, and what to do."""

    detail: str


_BODY: dict[str, Any] = {
    'requestBody': {
        'required': True,
        'content': {'application/octet-stream': {'schema': {'type': 'string', 'format': 'binary'}}},
    }
}
_REFUSALS: dict[int | str, dict[str, Any]] = {
    code: {'model': Problem, 'description': text}
    for code, text in (
        (408, 'The body did not arrive in time.'),
        (413, 'The body is larger than the limit.'),
        (422, 'The body cannot be read, or does not fit the run.'),
        (503, 'Too many requests are waiting: try again after the seconds of Retry-After.'),
    )
}


class Metrics:
    """Counters in the format of Prometheus."""

    def __init__(self, max_batch: int):
        self.registry = registry = prometheus.CollectorRegistry()
        self.requests = prometheus.Counter(
            'stg_requests',
            'Requests by endpoint and status.',
            ['endpoint', 'status'],
            registry=registry,
        )
        self.seconds = prometheus.Histogram(
            'stg_request_seconds',
            'From the header of a request to its answer.',
            ['endpoint'],
            registry=registry,
        )
        self.inside = prometheus.Gauge(
            'stg_requests_in_progress', 'Requests in progress.', registry=registry
        )
        self.batches = prometheus.Histogram(
            'stg_batch_clips',
            'Clips that were captioned together.',
            buckets=batch_sizes(max_batch),
            registry=registry,
        )
        self.stages = prometheus.Counter(
            'stg_stage_seconds', 'Seconds of each stage of batches.', ['stage'], registry=registry
        )

    def on_batch(self, num_clips: int, stages: Stages) -> None:
        """Count a batch."""
        self.batches.observe(num_clips)
        for stage, seconds in stages.seconds.items():
            self.stages.labels(stage).inc(seconds)


class _Admission:
    """Admits a bounded number of requests at a time, and tells the others when to retry."""

    def __init__(self, max_waiting: int, metrics: Metrics):
        self._max_waiting = max_waiting
        self._metrics = metrics
        self._inside = 0
        self._typical = 1.0  # seconds that a request takes, a moving average

    @contextlib.contextmanager
    def admit(self, endpoint: str) -> Iterator[None]:
        """Count a request; refuse it if too many are in progress."""
        start, status = time.perf_counter(), 500
        try:
            self._enter()
            try:
                yield
            finally:
                self._inside -= 1
                self._metrics.inside.set(self._inside)
            status = 200
            self._typical += 0.1 * (time.perf_counter() - start - self._typical)
        except HTTPException as error:
            status = error.status_code
            raise
        finally:
            self._metrics.requests.labels(endpoint, status).inc()
            self._metrics.seconds.labels(endpoint).observe(time.perf_counter() - start)

    def _enter(self) -> None:
        if self._inside >= self._max_waiting:
            pause = min(max(1, math.ceil(self._typical)), _LONGEST_PAUSE)
            raise HTTPException(
                503,
                f'{self._inside} requests are waiting: try again in {pause} s',
                headers={'Retry-After': str(pause)},
            )
        self._inside += 1
        self._metrics.inside.set(self._inside)


class Service:
    """Answers requests with a captioner.

    Args:
      captioner: a trained run.
      limits: the limits of uploads.
      max_batch: maximum number of clips in a batch.
      max_waiting: maximum number of requests at a time; others are answered 503.
    """

    def __init__(
        self, captioner: VideoCaptioner, limits: Limits, *, max_batch: int, max_waiting: int
    ):
        self.captioner, self.limits = captioner, limits
        self.metrics = Metrics(max_batch)
        self.batcher = Batcher(captioner, max_batch, self.metrics.on_batch)
        self._admission = _Admission(max_waiting, self.metrics)
        # Each thread waits for a process that decodes; more than cores would only take memory.
        self._readers = ThreadPoolExecutor(os.cpu_count(), 'readers')
        # Decoded videos are large: only those of two batches are in memory, others wait as files.
        self._decoded = asyncio.Semaphore(2 * max_batch)

    def close(self) -> None:
        """Answer what is queued and end the threads."""
        self.batcher.close()
        self._readers.shutdown()

    def read_video(self, path: Path) -> Video:
        """Decode a video in a process of its own."""
        return read_untrusted(path, self.captioner.extractor.sampling, self.limits)

    def read_features(self, path: Path) -> Clip:
        """Read features, whose shapes must be those of the run."""
        return read_features(path, self.captioner)

    async def answer(self, request: Request, kind: str, read: ReadFn, explain: str) -> Answered:
        """Caption the body of a request.

        Args:
          request: the request.
          kind: 'video' or 'features', for messages and metrics.
          read: reads the file that holds the body.
          explain: see `Explain`.
        """
        with self._admission.admit(kind):
            async with received(request, kind, self.limits) as path, self._decoded:
                future = self.batcher.submit(
                    Question(await self._read(read, path), explain != 'none')
                )
                answer = await _unless_gone(request, future)
            return await self._in_thread(_to_json, answer, explain)

    async def _read(self, read: ReadFn, path: Path) -> Video | Clip:
        try:
            return await self._in_thread(read, path)
        except UserError as error:
            # Clients must not learn the paths of the server.
            raise HTTPException(422, str(error).replace(str(path), path.name)) from None

    async def _in_thread(self, fn: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._readers, fn, *args)


async def _unless_gone(request: Request, future: Future[Answer]) -> Answer:
    """Wait for an answer, but cancel the clip if the client disconnects."""
    answer = asyncio.wrap_future(future)
    leaving = asyncio.ensure_future(request.receive())  # after the body, this is the disconnect
    try:
        await asyncio.wait([answer, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            answer.cancel()
            raise HTTPException(GONE)
        return answer.result()
    except UserError as error:
        raise HTTPException(422, str(error)) from None
    finally:
        leaving.cancel()


def _to_json(answer: Answer, explain: str) -> Answered:
    found = answer.captioned.as_json()
    del found['video']
    entry = answer.explanation
    if entry and explain == 'data':
        found['explanation'] = page_data(entry)
    if entry and explain == 'page':
        found['page'] = render_page([entry])
    return Answered(**found)


def build_app(service: Service) -> FastAPI:
    """Build the application around a service, which it starts and closes."""
    limits = service.limits

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.batcher.start()
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title='stg_jax',
        version=stg_jax.__version__,
        description=f'Captions of videos of at most {limits.seconds:g} s, {limits.megabytes:g} MB.',
        lifespan=lifespan,
    )

    @app.post('/v1/captions/video', responses=_REFUSALS, openapi_extra=_BODY)
    async def caption_video(request: Request, explain: Explain = 'none') -> Answered:
        """Caption a video, which is the body of the request."""
        return await service.answer(request, 'video', service.read_video, explain)

    @app.post('/v1/captions/features', responses=_REFUSALS, openapi_extra=_BODY)
    async def caption_features(request: Request, explain: Explain = 'none') -> Answered:
        """Caption one clip by its features, an .npz with the arrays that the run reads."""
        return await service.answer(request, 'features', service.read_features, explain)

    @app.get('/health')
    def health(response: Response) -> Health:
        """Whether the server can caption, and with which parameters."""
        is_alive = service.batcher.is_alive
        response.status_code = 200 if is_alive else 503
        run = service.captioner.run.path.name
        return Health(is_alive=is_alive, run=run, step=service.captioner.step)

    @app.get('/metrics', response_class=PlainTextResponse)
    def metrics() -> Response:
        """Counters in the text format of Prometheus."""
        text = prometheus.generate_latest(service.metrics.registry)
        return Response(text, media_type=prometheus.CONTENT_TYPE_LATEST)

    return app


def serve(service: Service, host: str, port: int) -> None:
    """Serve until SIGTERM or Ctrl-C; answer the requests in progress before returning.

    Args:
      service: its programs are compiled before the first request is accepted.
      host: address to listen at.
      port: 0 for any free one, which is printed.

    Raises:
      UserError: the address cannot be used.
    """
    with _bound(host, port) as listener:
        print(f'compiling for batches of up to {service.batcher.max_batch} clips', flush=True)
        service.batcher.warm_up()
        name, port = listener.getsockname()[:2]
        print(f'{service.captioner!r}\nhttp://{name}:{port}/docs describes the API', flush=True)
        config = uvicorn.Config(build_app(service), log_level='warning', access_log=False)
        uvicorn.Server(config).run(sockets=[listener])


def _bound(host: str, port: int) -> socket.socket:
    """Bind the address, before programs are compiled, so that a port in use is reported at once."""
    listener = socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise UserError(
            f'{host}:{port} cannot be used ({error.strerror}): choose another --host or --port'
        ) from None
    return listener
