"""Export encoding and beam search as one program, with the weights inside.

OUT/caption.stablehlo   for JAX on CPU, GPU and TPU: jax.export.deserialize(data).call(*features)
OUT/caption.onnx        for ONNX Runtime and others
OUT/program.json        names, shapes and types of inputs and outputs; the vocabulary by id
"""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun

from stg_jax import files
from stg_jax.data.vocab import EOS
from stg_jax.decode.captioner import Captioner
from stg_jax.decode.generate import make_search
from stg_jax.errors import UserError, first_line
from stg_jax.ops.platform import traced_for
from stg_jax.run.build import build_model

TOLERANCE = 1e-4  # largest difference between the scores of a program and of the run
# Operations traced for a TPU have no code that only works on a CPU or a GPU.
_PLAIN = 'tpu'
_PLATFORMS = ('cpu', 'cuda', 'tpu')
_OUTPUTS = ('tokens', 'scores')

Outputs = tuple[np.ndarray, np.ndarray]
CallFn = Callable[[Mapping[str, np.ndarray]], Outputs]


@dataclasses.dataclass(frozen=True)
class Program:
    """The search of a captioner, for a fixed number of clips.

    Attributes:
      fn: maps the arrays of `inputs`, in order, to tokens (B, K, L) and scores (B, K).
      inputs: shape and type of each feature, by name.
      about: the JSON object of program.json.
    """

    fn: Callable[..., tuple[jax.Array, jax.Array]]
    inputs: Mapping[str, jax.ShapeDtypeStruct]
    about: Mapping[str, Any]


def make_program(captioner: Captioner, *, batch_size: int, beam_size: int | None) -> Program:
    """Build the program of a captioner's branch; it computes in float32.

    Args:
      captioner: the run.
      batch_size: B, clips that are captioned at once.
      beam_size: K, 1 is greedy; None for the run's own.
    """
    run, options = captioner.run, captioner.search_options(beam_size)
    # float32 even if the run trained in bfloat16, which other runtimes round differently.
    config = run.config.changed(model__dtype='float32')
    model = build_model(config, run.manifest, run.vocab)
    search = make_search(
        model, branch=captioner.branch, num_best=options['beam_size'], one_size=True, **options
    )
    inputs = {
        name: jax.ShapeDtypeStruct(
            (batch_size, *shape.shape), jnp.bool_ if shape.dtype == bool else jnp.float32
        )
        for name, shape in captioner.input_shapes().items()
    }
    params = jax.device_get(captioner.params)

    def caption(*features: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = search(params, dict(zip(inputs, features, strict=True)))
        return found.token_BKL, found.score_BK

    tokens = [batch_size, options['beam_size'], run.config.data.max_words + 1]
    about = {
        'inputs': {
            name: {'shape': list(each.shape), 'dtype': str(each.dtype)}
            for name, each in inputs.items()
        },
        'outputs': {
            'tokens': {'shape': tokens, 'dtype': 'int32', 'end': EOS},
            'scores': {'shape': tokens[:2], 'dtype': 'float32'},
        },
        'branch': captioner.branch,
        **options,
        'jax': jax.__version__,
        'words': list(run.vocab.words),
    }
    return Program(caption, inputs, about)


def write_programs(
    captioner: Captioner,
    out: str | os.PathLike[str],
    *,
    batch_size: int = 1,
    beam_size: int | None = None,
    forms: Sequence[str] = ('stablehlo', 'onnx'),
) -> Path:
    """Write programs to the folder `out`, and check that they give the captions of the run.

    Args:
      captioner: the run, whose branch is exported.
      out: the folder, which must not exist.
      batch_size: see `make_program`.
      beam_size: see `make_program`.
      forms: keys of `FORMS`.

    Raises:
      UserError: a form is unknown or needs a package that is missing, the folder exists, or a
        program gives other captions than the run.
    """
    for form in forms:
        if form not in FORMS:
            raise UserError(f'{form!r} is no form of a program: choose from {", ".join(FORMS)}')
    if 'onnx' in forms:
        import_jax2onnx()  # reports that it is missing before anything is compiled
    program = make_program(captioner, batch_size=batch_size, beam_size=beam_size)
    features = example_features(captioner, program)
    expected = _run_plain(program, captioner, features)
    with files.write_folder(out) as folder:
        for form in forms:
            call = FORMS[form](program, folder)
            check_same(form, call(features), expected)
        files.write_json(folder / 'program.json', program.about)
    return Path(out)


def example_features(captioner: Captioner, program: Program) -> dict[str, np.ndarray]:
    """Draw random features with the scale of the run's data."""
    rng, scale = np.random.default_rng(0), captioner.run.manifest.scale

    def draw(name: str, like: jax.ShapeDtypeStruct) -> np.ndarray:
        if name == 'box':
            corner = np.sort(rng.random((*like.shape[:-1], 2, 2)), axis=-2)
            return corner.reshape(like.shape).astype(np.float32)
        if name == 'object_mask':
            return rng.random(like.shape) < 0.7
        return (scale.get(name, 1.0) * rng.normal(size=like.shape)).astype(np.float32)

    return {name: draw(name, like) for name, like in program.inputs.items()}


def check_same(form: str, found: Outputs, expected: Outputs) -> None:
    """Compare the captions and scores of a program with those of the run.

    Raises:
      UserError: a caption differs, or a score by more than `TOLERANCE`.
    """
    (tokens, scores), (expected_tokens, expected_scores) = found, expected
    # Only the best captions are compared: further down, two of nearly equal score may swap.
    same = np.array_equal(tokens[:, 0], expected_tokens[:, 0])
    apart = np.abs(scores[:, 0] - expected_scores[:, 0]).max()
    if not (same and apart <= TOLERANCE):
        what = f'its scores differ by {apart:.2g}' if same else 'it writes other captions'
        raise UserError(
            f'the {form} program does not compute what the run does: {what}; install the tested '
            'versions of requirements.txt, and report it if it stays'
        )


def import_jax2onnx() -> ModuleType:
    """Import jax2onnx.

    Raises:
      UserError: it, or ONNX Runtime, is not installed.
    """
    try:
        import jax2onnx  # pyright: ignore[reportMissingImports] - see pyproject.toml
        import onnxruntime  # noqa: F401
    except ImportError:
        raise UserError(
            "the form onnx needs jax2onnx and ONNX Runtime: pip install -e '.[export]', in an "
            'environment of its own'
        ) from None
    return jax2onnx


def _run_plain(
    program: Program, captioner: Captioner, features: Mapping[str, np.ndarray]
) -> Outputs:
    """Run the search that the run itself uses, in float32."""
    run = captioner.run
    config = run.config.changed(model__dtype='float32')
    own = Captioner(
        dataclasses.replace(run, config=config), captioner.params, captioner.step, captioner.branch
    )
    beam_size, length_penalty = program.about['beam_size'], program.about['length_penalty']
    found = own.search(features, beam_size, length_penalty, beam_size)
    return np.asarray(found.token_BKL), np.asarray(found.score_BK)


def _write_stablehlo(program: Program, folder: Path) -> CallFn:
    with traced_for(_PLAIN):
        exported = jax.export.export(jax.jit(program.fn), platforms=_PLATFORMS)(
            *program.inputs.values()
        )
    data = exported.serialize()
    (folder / 'caption.stablehlo').write_bytes(data)
    # Check the bytes that were written, not the program that they were made from.
    loaded = jax.export.deserialize(data)

    def call(features: Mapping[str, np.ndarray]) -> Outputs:
        tokens, scores = loaded.call(*(features[name] for name in program.inputs))
        return np.asarray(tokens), np.asarray(scores)

    return call


def _write_onnx(program: Program, folder: Path) -> CallFn:
    jax2onnx = import_jax2onnx()
    import onnxruntime

    path = folder / 'caption.onnx'
    try:
        # jax2onnx prints its progress to standard output, which is for the result of the command.
        with traced_for(_PLAIN), contextlib.redirect_stdout(None):
            # Traced here, not by jax2onnx: while it traces, it replaces functions of jax.numpy by
            # its own, which compute in float64 if an array meets a Python number.
            traced = jax.make_jaxpr(program.fn)(*program.inputs.values())
            jax2onnx.to_onnx(
                jaxpr_as_fun(traced),
                list(program.inputs.values()),
                model_name='caption',
                input_names=list(program.inputs),
                output_names=list(_OUTPUTS),
                return_mode='file',
                output_path=path,
            )
    # The conversion of each operation raises errors of its own.
    except Exception as error:
        raise UserError(
            f'jax2onnx cannot convert this network ({first_line(error)}): export the form stablehlo'
        ) from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; a warning would name each unused constant
    session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])

    def call(features: Mapping[str, np.ndarray]) -> Outputs:
        tokens, scores = session.run(list(_OUTPUTS), dict(features))
        return np.asarray(tokens), np.asarray(scores)

    return call


FORMS: dict[str, Callable[[Program, Path], CallFn]] = {
    'stablehlo': _write_stablehlo,
    'onnx': _write_onnx,
}
