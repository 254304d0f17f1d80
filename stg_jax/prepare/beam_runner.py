"""The same work as an Apache Beam pipeline: on this machine, Dataflow, Flink or Spark."""

from collections.abc import Sequence

from stg_jax.errors import UserError
from stg_jax.prepare.resume_store import ClipStore
from stg_jax.prepare.workers import Chunk, Maker

try:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
except ImportError:
    raise UserError(
        "--runner needs Apache Beam, which is not installed: pip install -e '.[beam]'"
    ) from None


def make_with_beam(
    maker: Maker, chunks: Sequence[Chunk], store: ClipStore, options: Sequence[str]
) -> None:
    """Make every chunk and keep it in `store`, which all workers must reach; wait for the end.

    Args:
      maker: makes the clips.
      chunks: what to make.
      store: where to keep it.
      options: of the pipeline, as Beam writes them, e.g. ['--runner=DirectRunner',
        '--direct_num_workers=4', '--direct_running_mode=multi_processing'].

    Raises:
      UserError: Beam knows no such runner, or the runner refuses its options.
    """
    if not chunks:
        return
    with _pipeline(options) as pipeline:
        _ = (
            pipeline
            | 'chunks' >> beam.Create(list(chunks))
            # Without it the runner fuses both steps, and one worker makes all chunks.
            | 'spread' >> beam.Reshuffle()
            | 'make and keep' >> beam.ParDo(_MakeAndKeep(maker, store))
        )


def _pipeline(options: Sequence[str]) -> beam.Pipeline:
    # First, so that it can be set again: the harness logs a page per worker at INFO.
    quiet = '--default_sdk_harness_log_level=ERROR'
    try:
        return beam.Pipeline(options=PipelineOptions([quiet, *options]))
    except (ValueError, ImportError) as error:
        reason = ' '.join(str(error).split())
        raise UserError(f'Apache Beam refuses --runner and --beam: {reason}') from None


class _MakeAndKeep(beam.DoFn):
    """Makes chunks; a worker process keeps one of these, and its maker one set of models."""

    def __init__(self, maker: Maker, store: ClipStore):
        self._maker = maker
        self._store = store

    def process(self, chunk: Chunk) -> None:
        # A runner may hand out a chunk twice, which leaves the same files.
        self._store.save(chunk, self._maker.make(chunk, self._maker.load(chunk)))
