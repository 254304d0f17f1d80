"""Caption raw videos with a trained run.

    python launch/caption.py --workdir runs/own my.mp4 other.avi clips/
    python launch/caption.py --workdir runs/own my.mp4 --report out.html --figure out.pdf
    python launch/caption.py --workdir runs/own film.mp4 --window 10s --burn film.captions.mp4
    python launch/caption.py --workdir runs/own clips/ --txt
    python launch/caption.py --workdir runs/own my.mp4 --num_captions 10 --temperature 0.8 --seed 1

Prints a line for each video, or for each window of it. On a terminal, the line is the caption. In a
pipe or a file, or with --json, it is a JSON object: all captions with their scores, best first, and
the seconds that each stage took. A score is the log-probability of a caption divided by its length
penalty.

The features come from the extractor that made the run's training data. With --window, subtitles are
written, NAME.captions.srt and NAME.captions.vtt. A video that cannot be read is reported and
skipped; the command then ends with exit code 2.
"""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

import stg_jax
from stg_jax.cli import app, progress
from stg_jax.errors import UserError
from stg_jax.files import check_writable, write_text

_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder that train.py wrote.')
_BRANCH = flags.DEFINE_string(
    'branch',
    None,
    'scene (the student), object (the teacher) or joint; by default the deployed one.',
)
_CHECKPOINT = flags.DEFINE_string('checkpoint', 'best', 'best (on validation), latest, or a step.')
_BEAM = flags.DEFINE_integer('beam_size', None, "1 is greedy; by default the run's.", lower_bound=1)
_NUMBER = flags.DEFINE_integer(
    'num_captions', None, 'Number of captions; by default the whole beam, or one if random.', 1
)
_TEMPERATURE = flags.DEFINE_float(
    'temperature', None, 'Draw captions at random; low values favor likely words.', 1e-3
)
_SEED = flags.DEFINE_integer('seed', 0, 'Seed of the random captions.', 0, 2**32 - 1)
_JSON = flags.DEFINE_bool(
    'json', None, 'Print JSON; by default if standard output is not a terminal.'
)
_WINDOW = flags.DEFINE_string('window', None, 'Caption windows of this length, such as 10s.')
_SUBTITLES = flags.DEFINE_string(
    'subtitles', None, 'Folder of the subtitles; by default that of each video.'
)
_TXT = flags.DEFINE_bool(
    'txt', False, 'Write the best caption to NAME.txt beside each video; skip videos that have one.'
)
_BURN = flags.DEFINE_string('burn', None, 'Copy the video to this mp4 with captions and boxes.')
_REPORT = flags.DEFINE_string(
    'report', None, 'HTML page to write that shows what each word came from.'
)
_FIGURE = flags.DEFINE_string('figure', None, 'PNG, SVG or PDF file to write that shows the same.')

SECTIONS = {
    'Choice of captions': (_BRANCH, _CHECKPOINT, _BEAM, _NUMBER, _TEMPERATURE, _SEED),
    'Files to write': (_REPORT, _FIGURE, _SUBTITLES, _TXT, _BURN),
}


def main(names: list[str]) -> int:
    """Caption each video of the command line."""
    if not names:
        raise UserError('no video given: name one or more files or folders (see --help)')
    workdir = app.required(_WORKDIR)
    from stg_jax.captioning.explained import Report
    from stg_jax.captioning.subtitles import name_subtitles, parse_seconds, write_subtitles
    from stg_jax.extract.video.files import list_videos

    seconds = parse_seconds(_WINDOW.value) if _WINDOW.value else None
    paths = _without_text(list_videos(names)) if _TXT.value else list_videos(names)
    _report_left_out(names)
    if not paths:
        return 0
    _check_outputs(paths)
    subtitles = name_subtitles(paths, _SUBTITLES.value) if seconds or _SUBTITLES.value else {}
    status = progress.StatusLine()
    status.show(f'loading {workdir}')
    captioner = stg_jax.load(workdir, branch=_BRANCH.value, checkpoint=_CHECKPOINT.value)
    options = {
        'beam_size': _BEAM.value,
        'number': _NUMBER.value,
        'temperature': _TEMPERATURE.value,
        'seed': _SEED.value,
    }
    report, failed = Report(), 0
    for number, path in enumerate(paths, 1):
        compiling = ', compiling first (about a minute)' if number == 1 else ''
        status.show(f'captioning {number}/{len(paths)} {path.name}{compiling}')
        # Outside of `try`: contradictory options end the command, a bad video is only reported.
        found = captioner.captions(path, segment_seconds=seconds, **options)
        try:
            captioned = [_print(each, captioner, report, status) for each in found]
        except UserError as error:
            status.clear()
            app.warn(str(error))
            failed += 1
            continue
        status.clear()
        _explain_empty(path, captioned, captioner)
        if _TXT.value:
            write_text(path.with_suffix('.txt'), captioned[0].caption + '\n')
            progress.say(f'wrote {path.with_suffix(".txt")}')
        if subtitles:
            write_subtitles(subtitles[path], captioned)
            progress.say(f'wrote {subtitles[path]}.srt and .vtt')
        if _BURN.value is not None:
            _burn(path, _BURN.value, captioned)
            progress.say(f'wrote {_BURN.value}')
    for out in filter(None, (_REPORT.value, _FIGURE.value)):
        if report.entries:
            report.save(out)
            progress.say(f'wrote {out}')
    return app.USER_ERROR if failed else 0


def _without_text(paths: Sequence[Path]) -> list[Path]:
    """Leave out videos that already have a .txt file, so that the same command resumes."""
    if _WINDOW.value:
        raise UserError('--txt writes one caption a video: leave out --window')
    from stg_jax.captioning.subtitles import without_text

    wanted = without_text(paths)
    if len(wanted) < len(paths):
        progress.say(f'skipped {len(paths) - len(wanted)} videos that have a .txt')
    return wanted


def _check_outputs(paths: Sequence[Path]) -> None:
    """Check at the start that the files of the command line can be written at the end."""
    if _BURN.value and len(paths) > 1:
        raise UserError(f'--burn copies one video and {len(paths)} are given: name one')
    if _BURN.value:
        from stg_jax.captioning.burn_in import check_name
        from stg_jax.visualize.matplotlib import font_file

        font_file()  # reports a missing Matplotlib now, and not after the captioning
        check_name(_BURN.value, paths[0])
    if _REPORT.value:
        from stg_jax.visualize.explanation_page import SUFFIXES

        check_writable(_REPORT.value, SUFFIXES)
    if _FIGURE.value:
        from stg_jax.visualize.explanation_figure import SUFFIXES
        from stg_jax.visualize.matplotlib import import_matplotlib

        import_matplotlib()
        check_writable(_FIGURE.value, SUFFIXES)


def _print(captioned: Any, captioner: Any, report: Any, status: progress.StatusLine) -> Any:
    """Print a caption, explained if a report asks for it; return it without pictures."""
    if _REPORT.value or _FIGURE.value:
        with captioned.stages.measure('explain'):
            report.add(captioner, captioned, is_segment=bool(_WINDOW.value))
    as_json = not sys.stdout.isatty() if _JSON.value is None else _JSON.value
    text = json.dumps(captioned.as_json(), ensure_ascii=False) if as_json else _text(captioned)
    status.clear()
    print(text, flush=True)
    if _WINDOW.value:
        status.show(f'captioning {captioned.path.name} after {captioned.end:.0f} s')
    # Subtitles and burned copies need the captions of a whole film; its pictures would fill memory.
    return dataclasses.replace(captioned, frames=())


def _text(captioned: Any) -> str:
    """Format the best caption for a reader; all of them if their number was asked for."""
    window = f' {captioned.start:.1f}-{captioned.end:.1f} s' if _WINDOW.value else ''
    shown = [each.caption for each in captioned.candidates][: _NUMBER.value or 1]
    return '\n'.join(f'{captioned.path}{window}: {caption}' for caption in shown)


def _explain_empty(path: Path, captioned: Sequence[Any], captioner: Any) -> None:
    """Warn about empty captions of a video and explain them."""
    empty = sum(not each.caption for each in captioned)
    if empty:
        app.warn(
            f'{path}: {empty} of {len(captioned)} captions are empty: the model '
            'ended the sentence before the first word, as it does after too little training. Its '
            f'parameters are those of {captioner.why}. Train for more epochs or on more clips, or '
            'try --checkpoint=latest'
        )


def _report_left_out(names: Sequence[str]) -> None:
    """Name the files of folders that are not captioned because of their suffix."""
    from stg_jax.extract.video.files import left_out_sentence

    for name in names:
        if Path(name).is_dir() and (sentence := left_out_sentence(name)):
            app.warn(sentence)


def _burn(path: Path, out: str, captioned: Sequence[Any]) -> None:
    from stg_jax.captioning.burn_in import burn

    status, seconds = progress.StatusLine(), captioned[-1].end
    burn(path, out, captioned, lambda second: status.show(f'burning {second:.0f}/{seconds:.0f} s'))
    status.clear()


def run() -> None:
    """Run the command line of this process."""
    app.run(main)
