"""Make clips with Apache Beam, which runs on this machine, Dataflow, Flink or Spark."""

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
    """Make every chunk and store it; returns when the pipeline has finished.

    Args:
      maker: makes the clips.
      chunks: what to make.
      store: for the clips; all workers must reach its folder.
      options: of the pipeline, as Beam writes them, e.g. ['--runner=DirectRunner',
        '--direct_num_workers=4', '--direct_running_mode=multi_processing'].

    Raises:
      UserError: Beam does not know the runner, or the runner refuses its options.
    """
    if not chunks:
        return
    # The pipeline only fills the store. The shards are written by the caller, in order, so that
    # they are the same bytes with any runner.
    with _pipeline(options) as pipeline:
        _ = (
            pipeline
            # Requests are small; the videos themselves are read by the workers.
            | 'chunks' >> beam.Create(list(chunks))
            # Without it the runner fuses both steps, and one worker makes all chunks.
            | 'distribute' >> beam.Reshuffle()
            | 'make and store' >> beam.ParDo(_MakeAndStore(maker, store))
        )


def _pipeline(options: Sequence[str]) -> beam.Pipeline:
    # The harness logs a page per worker at INFO. First, so that the user can override it.
    quiet = '--default_sdk_harness_log_level=ERROR'
    try:
        return beam.Pipeline(options=PipelineOptions([quiet, *options]))
    except (ValueError, ImportError) as error:
        reason = ' '.join(str(error).split())
        raise UserError(f'Apache Beam refuses --runner and --beam: {reason}') from None


class _MakeAndStore(beam.DoFn):
    """Makes chunks; each worker process has one instance, so models are loaded once."""

    def __init__(self, maker: Maker, store: ClipStore):
        self._maker = maker
        self._store = store

    def process(self, chunk: Chunk) -> None:
        # A runner may retry a chunk, which writes the same files again.
        self._store.save(chunk, self._maker.make(chunk, self._maker.load(chunk)))
