"""A web page on which people caption their own videos."""

import dataclasses
import functools
import html
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stg_jax.captioning.explained import in_frame
from stg_jax.captioning.video_captioner import VideoCaptioner
from stg_jax.errors import UserError
from stg_jax.extract.video.timeline import read_timeline

WAITING = 20  # people in the queue, after whom others are asked to come back later


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a stranger's video may be at most.

    Attributes:
      seconds: of its length.
      megabytes: of its file.
    """

    seconds: float
    megabytes: float

    def check(self, path: Path) -> None:
        """Refuse a larger video, before any of it is decoded.

        Raises:
          UserError: it is larger, or no video.
        """
        if path.stat().st_size > self.megabytes * 1e6:
            raise UserError(
                f'{path.name} is larger than {self.megabytes:g} MB: cut it or make it smaller'
            )
        seconds = read_timeline(path).end
        if seconds > self.seconds:
            raise UserError(
                f'{path.name} lasts {seconds:.0f} s and {self.seconds:g} s is the limit: cut it'
            )


def caption_fn(captioner: VideoCaptioner, limits: Limits) -> Callable[[Path], tuple[str, str]]:
    """Build the function from a video file to its caption and its report, a page as HTML text."""
    _ = captioner.extractor  # so that its models are loaded, or missed, before anybody asks

    def caption(path: Path) -> tuple[str, str]:
        limits.check(path)
        report = captioner.explain(path)
        return report.entries[0].captions[0][0], report.html()

    return caption


def build_demo(
    caption: Callable[[Path], tuple[str, str]], samples: Sequence[Path], limits: Limits
) -> Any:
    """Return the Gradio application, to be launched by `launch_demo`.

    Args:
      caption: see `caption_fn`.
      samples: videos to pick from.
      limits: that the page states.

    Raises:
      UserError: Gradio is not installed.
    """
    gradio = _gradio()
    with gradio.Blocks(title='stg_jax', analytics_enabled=False) as demo:
        gradio.Markdown(
            '# Video captions, and what carried each word\n\nUpload a video or pick a sample: at '
            f'most {limits.seconds:g} seconds and {limits.megabytes:g} MB.'
        )
        with gradio.Row():
            video = gradio.Video(label='Video', sources=['upload'], include_audio=True, height=320)
            with gradio.Column():
                start = gradio.Button('Caption', variant='primary', interactive=False)
                mistake = gradio.HTML()
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
            functools.partial(_answer, caption), video, [text, mistake, page], api_name='caption'
        )
    # Models run one after another, whoever asks.
    return demo.queue(max_size=WAITING, default_concurrency_limit=1)


def _answer(caption: Callable[[Path], tuple[str, str]], video: str | None) -> tuple[str, str, str]:
    """Return the caption, what went wrong as HTML, and the report in a frame."""
    if not video:
        return '', _alert('Upload a video or pick a sample first.'), ''
    path = Path(video)
    try:
        text, page = caption(path)
    except UserError as error:
        # Where the server keeps files is its own affair.
        return '', _alert(str(error).replace(str(path), path.name)), ''
    return text or '(no words)', '', in_frame(page)


def _alert(sentence: str) -> str:
    """Return a message that stays, covers nothing, and is read out."""
    style = 'border-left:4px solid #d0021b;padding:.3rem .8rem;margin:0;overflow-wrap:anywhere'
    return f'<p role="alert" style="{style}">{html.escape(sentence)}</p>'


def launch_demo(
    demo: Any,
    *,
    host: str,
    port: int | None,
    samples: Sequence[Path],
    limits: Limits,
    **options: Any,
) -> Any:
    """Serve the application; what `demo.launch` of Gradio returns."""
    return demo.launch(
        server_name=host,
        server_port=port,
        max_file_size=round(limits.megabytes * 1e6),
        allowed_paths=sorted({str(path.parent) for path in samples}),
        show_error=False,
        **options,
    )


def _gradio() -> Any:
    try:
        import gradio
    except ImportError:
        raise UserError("the demo needs gradio: pip install -e '.[demo]'") from None
    return gradio
