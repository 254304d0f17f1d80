"""The table of model libraries: detectors and encoders by names such as keras:PRESET or onnx:FILE.

A new library is one file and one row.
"""

import hashlib
from pathlib import Path

from stg_jax.errors import UserError
from stg_jax.extract.base import ClipEncoder, Detector, FrameEncoder, ModelLibrary, ModelOptions
from stg_jax.extract.frame_difference import DifferenceLibrary
from stg_jax.extract.keras.library import KerasLibrary
from stg_jax.extract.lite.encoder import PRESETS, LiteLibrary
from stg_jax.extract.onnx.library import OnnxLibrary

LIBRARIES: dict[str, ModelLibrary] = {
    'keras': KerasLibrary(),
    'onnx': OnnxLibrary(),
    'difference': DifferenceLibrary(),
    **{name: LiteLibrary(name) for name in PRESETS},
}


def build_detector(text: str, options: ModelOptions) -> Detector:
    """Load the detector with this name.

    Raises:
      UserError: the library or model does not exist.
    """
    library, model = _find('detector', text)
    return library.detector(model, options)


def build_frame_encoder(text: str, options: ModelOptions) -> FrameEncoder:
    """Load the frame encoder with this name.

    Raises:
      UserError: the library or model does not exist.
    """
    library, model = _find('frame_encoder', text)
    return library.frame_encoder(model, options)


def build_clip_encoder(
    text: str, options: ModelOptions, frame_encoder: FrameEncoder
) -> ClipEncoder:
    """Load the clip encoder with this name.

    Raises:
      UserError: the library or model does not exist.
    """
    library, model = _find('clip_encoder', text)
    return library.clip_encoder(model, options, frame_encoder)


def check(part: str, text: str) -> None:
    """Refuse a model that does not exist, without loading it.

    Args:
      part: 'detector', 'frame_encoder' or 'clip_encoder'.
      text: name of the model.

    Raises:
      UserError: the library or model does not exist.
    """
    library, model = _find(part, text)
    library.check(part, model)


def files(part: str, text: str) -> list[Path]:
    """List the files of a model; none if its name identifies it.

    Raises:
      UserError: the library or model file does not exist.
    """
    library, model = _find(part, text)
    return library.files(model)


def digest(part: str, text: str) -> str:
    """Compute a checksum of a model's files; '' if its name identifies it.

    Raises:
      UserError: the library or model file does not exist.
    """
    found = files(part, text)
    # A digest of digests: files are hashed one by one, whatever their number and size.
    content = hashlib.sha256()
    for path in found:
        with path.open('rb') as file:
            content.update(hashlib.file_digest(file, 'sha256').digest())
    return content.hexdigest() if found else ''


def _find(part: str, text: str) -> tuple[ModelLibrary, str]:
    # Only the first colon: a folder on Windows or a URL such as hf://... has its own.
    name, _, model = text.partition(':')
    library = LIBRARIES.get(name)
    if library is None or bool(model) != library.needs_model:
        examples = ', '.join(f"'{each.example}'" for each in LIBRARIES.values())
        raise UserError(f'{part} must be the name of a model such as {examples}, found {text!r}')
    return library, model
