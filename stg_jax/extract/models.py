"""The detectors and encoders that an extractor is built from, by their `keras:` or `onnx:` name."""

import hashlib
from pathlib import Path

from stg_jax.errors import UserError
from stg_jax.extract.base import ClipEncoder, Detector, FrameEncoder
from stg_jax.extract.onnx.detector import OnnxDetector, split_layout
from stg_jax.extract.onnx.frame_encoder import OnnxFrameEncoder
from stg_jax.extract.onnx.normalization import CONFIG


def build_detector(text: str, *, min_score: float, batch_size: int, dtype: str) -> Detector:
    """Return the detector named by 'keras:PRESET' or 'onnx:FILE'.

    Raises:
      UserError: there is no such library or model.
    """
    library, model = _split('detector', text)
    if library == 'onnx':
        return OnnxDetector(model, min_score=min_score, batch_size=batch_size)
    from stg_jax.extract.keras.detector import KerasDetector

    return KerasDetector(model, min_score=min_score, batch_size=batch_size, dtype=dtype)


def build_frame_encoder(text: str, *, batch_size: int, dtype: str) -> FrameEncoder:
    """Return the frame encoder named by 'keras:PRESET' or 'onnx:FILE'.

    Raises:
      UserError: there is no such library or model.
    """
    library, model = _split('frame_encoder', text)
    if library == 'onnx':
        return OnnxFrameEncoder(model, batch_size=batch_size)
    from stg_jax.extract.keras.frame_encoder import KerasFrameEncoder

    return KerasFrameEncoder(model, batch_size=batch_size, dtype=dtype)


def build_clip_encoder(
    text: str, frame_encoder: FrameEncoder, *, batch_size: int, dtype: str
) -> ClipEncoder:
    """Return the clip encoder named by 'keras:PRESET' or 'difference' (of the frame encoder).

    Raises:
      UserError: there is no such library or model.
    """
    if text == 'difference':
        from stg_jax.extract.frame_difference import FrameDifference

        return FrameDifference(frame_encoder)
    model = _clip_preset(text)
    from stg_jax.extract.keras.clip_encoder import KerasClipEncoder

    return KerasClipEncoder(model, batch_size=batch_size, dtype=dtype)


def check(part: str, text: str) -> None:
    """Refuse a part whose preset is not there, without loading it; for files see `digest`.

    Args:
      part: 'detector', 'frame_encoder' or 'clip_encoder'.
      text: as `build_detector` and the others take it.

    Raises:
      UserError: there is no such library or preset.
    """
    if part == 'clip_encoder' and text == 'difference':
        return
    library, model = ('keras', _clip_preset(text)) if part == 'clip_encoder' else _split(part, text)
    if library == 'keras':
        from stg_jax.extract.keras.preset import check_preset

        check_preset('ObjectDetector' if part == 'detector' else 'Backbone', model)


def digest(text: str) -> str:
    """Return a checksum of the files of a part, '' where a preset's name says which it is.

    Raises:
      UserError: there is no such library or model file.
    """
    if text == 'difference':
        return ''
    library, model = _split('part', text)
    files = _onnx_files(model) if library == 'onnx' else _preset_files(Path(model))
    content = hashlib.sha256()
    for path in files:
        with path.open('rb') as file:
            content.update(hashlib.file_digest(file, 'sha256').digest())
    return content.hexdigest() if files else ''


def _onnx_files(model: str) -> list[Path]:
    """Return the model file, and beside it its weights and pixel scale where they are apart."""
    path = Path(split_layout(model)[0])
    if not path.is_file():
        raise UserError(f'the model file {path} does not exist')
    beside = [path.with_name(f'{path.name}{end}') for end in ('.data', '_data')]
    return [path, *filter(Path.is_file, [*beside, path.with_name(CONFIG)])]


def _preset_files(folder: Path) -> list[Path]:
    """Return the files of a preset in a folder, none of one that is downloaded by its name."""
    return sorted(path for path in folder.rglob('*') if path.is_file())


def _clip_preset(text: str) -> str:
    library, model = _split('clip_encoder', text)
    if library == 'onnx':
        raise UserError(
            f"no clip encoder reads ONNX: use 'keras:...' or 'difference', not {text!r}"
        )
    return model


def _split(part: str, text: str) -> tuple[str, str]:
    library, colon, model = text.partition(':')
    if library not in ('keras', 'onnx') or not colon or not model:
        raise UserError(
            f"{part} must be keras:PRESET or onnx:FILE, e.g. 'keras:resnet_50_imagenet', "
            f'found {text!r}'
        )
    return library, model
