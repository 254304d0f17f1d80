"""Explained captions as entries of a report, and a report inside of another page."""

import html

from stg_jax.captioning.caption_video import Captioned
from stg_jax.captioning.subtitles import timestamp
from stg_jax.decode.captioner import Captioner
from stg_jax.explain import explain_caption
from stg_jax.extract.video.files import printable
from stg_jax.visualize import ReportEntry, to_jpeg

# Runs in the page around the frame: it sets the frame's height to the one that the report's own
# script posts (see `page.js`), and ignores messages of any other window.
_FIT = (
    "window.addEventListener('message', ({source, data}) => { if (source === this.contentWindow) "
    "this.style.height = data.reportHeight + 'px' })"
)
_STYLE = 'width:100%;height:760px;min-height:320px;max-height:2000px;border:0'


def explain_captioned(
    captioner: Captioner, captioned: Captioned, *, is_segment: bool
) -> ReportEntry:
    """Explain the best caption of a video; segments get their times into their names."""
    name = printable(captioned.path.name)
    if is_segment:
        name += f', {timestamp(captioned.start, ".")} to {timestamp(captioned.end, ".")}'
    # JPEG, since the frames of all captioned videos are in memory until the page is written.
    return ReportEntry(
        name=name,
        frames=[to_jpeg(frame) for frame in captioned.frames],
        captions=[(each.caption, each.score) for each in captioned.candidates],
        explanation=explain_caption(captioner, captioned.clip, captioned.candidates[0].token_L),
        seconds=captioned.second_T.tolist(),
        label_names=captioned.label_names,
    )


def in_frame(page: str) -> str:
    """Embed a whole page as HTML; the sandbox denies it the origin of the page around it."""
    return (
        f'<div><iframe title="Report" sandbox="allow-scripts" style="{_STYLE}" '
        f'onload="{html.escape(_FIT)}" srcdoc="{html.escape(page)}"></iframe></div>'
    )
