"""A web page on which people caption their own videos."""

import functools
import html
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stg_jax.captioning.caption_video import caption_frames
from stg_jax.captioning.explained import Report, in_frame
from stg_jax.captioning.video_captioner import VideoCaptioner
from stg_jax.decode.candidates import best_candidates
from stg_jax.errors import UserError
from stg_jax.extract.base import Stages
from stg_jax.extract.video.untrusted import Limits, read_untrusted

# People in the queue; others are asked to come back later.
WAITING = 20
# Uploads are deleted once they are this old, in seconds: time to watch the video beside its
# caption, and to ask for it again. Gradio looks for old ones every _SWEEP seconds.
KEPT, _SWEEP = 900, 60

CaptionFn = Callable[[Path], tuple[str, str]]  # from a video to its caption and its report

_EMPTY = (
    'The caption has no words: the network took the end to be more likely than any first word, as '
    'it can for videos unlike those it was trained on. The report lists its other captions.'
)


def caption_fn(captioner: VideoCaptioner, limits: Limits) -> CaptionFn:
    """Build the function from a video file to its caption and its report, a page as HTML text."""
    # Loads the models now: a missing one is reported at the start and not to the first visitor.
    extractor = captioner.extractor

    def caption(path: Path) -> tuple[str, str]:
        # Only the decoder sees untrusted bytes; what it returns are arrays of known shapes.
        video = read_untrusted(path, extractor.sampling, limits)
        choose = functools.partial(best_candidates, captioner)
        captioned = caption_frames(extractor, choose, path, video, Stages())
        report = Report()
        report.add(captioner, captioned)
        return captioned.caption, report.html()

    return caption


def build_demo(caption: CaptionFn, samples: Sequence[Path], limits: Limits) -> Any:
    """Build the Gradio application, to be launched by `launch_demo`.

    Args:
      caption: see `caption_fn`.
      samples: videos to pick from.
      limits: stated on the page.

    Raises:
      UserError: Gradio is not installed.
    """
    gradio = _import_gradio()
    with gradio.Blocks(
        title='stg_jax', analytics_enabled=False, delete_cache=(_SWEEP, KEPT)
    ) as demo:
        gradio.Markdown(
            '# Video captions, and what each word came from\n\nUpload a video or pick a sample: at '
            f'most {limits.seconds:g} seconds and {limits.megabytes:g} MB. Uploads are deleted '
            f'after {KEPT // 60} minutes.'
        )
        with gradio.Row():
            video = gradio.Video(label='Video', sources=['upload'], include_audio=True, height=320)
            with gradio.Column():
                start = gradio.Button('Caption', variant='primary', interactive=False)
                alert = gradio.HTML()
                text = gradio.Textbox(label='Caption', interactive=False)
                if samples:
                    gradio.Examples([[str(path)] for path in samples], video, label='Samples')
        page = gradio.HTML(label='Report')
        video.change(
            lambda name: gradio.update(interactive=bool(name)),
            video,
            start,
            queue=False,
            show_progress='hidden',
            api_visibility='private',
        )
        start.click(
            functools.partial(_answer, caption), video, [text, alert, page], api_name='caption'
        )
    # max_size bounds how long anybody waits.
    # The models run one request at a time, whoever asks.
    return demo.queue(max_size=WAITING, default_concurrency_limit=1)


def launch_demo(
    demo: Any,
    *,
    host: str,
    port: int | None,
    samples: Sequence[Path],
    limits: Limits,
    **options: Any,
) -> Any:
    """Serve the application; returns what `demo.launch` of Gradio does."""
    return demo.launch(
        server_name=host,
        server_port=port,
        max_file_size=round(limits.megabytes * 1e6),
        # The files and not their folder: everything below an allowed folder is served.
        allowed_paths=[str(path) for path in samples],
        # Gradio would show the traceback of an unexpected error, with paths of the server.
        show_error=False,
        **options,
    )


def _answer(caption: CaptionFn, video: str | None) -> tuple[str, str, str]:
    """Return the caption, an error as HTML, and the report in a frame."""
    if not video:
        return '', _alert('Upload a video or pick a sample first.'), ''
    path = Path(video)
    try:
        text, page = caption(path)
    except UserError as error:
        # Strangers need not know the folders of the server.
        return '', _alert(str(error).replace(str(path), path.name)), ''
    return text or '(no words)', '' if text else _alert(_EMPTY), in_frame(page)


def _alert(sentence: str) -> str:
    """Format a message that stays, covers nothing, and is read out by screen readers."""
    style = 'border-left:4px solid #d0021b;padding:.3rem .8rem;margin:0;overflow-wrap:anywhere'
    return f'<p role="alert" style="{style}">{html.escape(sentence)}</p>'


def _import_gradio() -> Any:
    try:
        import gradio
    except ImportError:
        raise UserError("the demo needs gradio: pip install -e '.[demo]'") from None
    return gradio
