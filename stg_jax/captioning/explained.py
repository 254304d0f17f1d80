"""What a report says of a captioned video."""

import html

from stg_jax.captioning.caption_video import Captioned
from stg_jax.captioning.subtitles import clock
from stg_jax.decode.captioner import Captioner
from stg_jax.explain.explain import explain
from stg_jax.visualize import Shown, to_jpeg


def to_shown(captioner: Captioner, captioned: Captioned, *, is_window: bool) -> Shown:
    """Explain the best caption; a window of a video is named by its times, too."""
    name = captioned.path.name
    if is_window:
        name += f', {clock(captioned.start, ".")} to {clock(captioned.end, ".")}'
    best = captioned.candidates[0]
    return Shown(
        name=name,
        frames=[to_jpeg(frame) for frame in captioned.frames],
        captions=[(each.caption, each.score) for each in captioned.candidates],
        explanation=explain(captioner, captioned.clip, best.token_L),
        seconds=captioned.second_T.tolist(),
        label_names=captioned.label_names,
    )


# A page says how high it is, see `page.js`; only this frame's own page is listened to.
_FIT = (
    "window.addEventListener('message', ({source, data}) => { if (source === this.contentWindow) "
    "this.style.height = data.reportHeight + 'px' })"
)
_STYLE = 'width:100%;height:760px;min-height:320px;max-height:2000px;border:0'


def in_frame(page: str) -> str:
    """Return the HTML of a frame in which a whole page lives apart from the one around it."""
    return (
        f'<div><iframe title="Report" sandbox="allow-scripts" style="{_STYLE}" '
        f'onload="{html.escape(_FIT)}" srcdoc="{html.escape(page)}"></iframe></div>'
    )
