"""Models in ONNX files: onnx:FILE."""

from pathlib import Path

from stg_jax.errors import UserError
from stg_jax.extract.base import Detector, FrameEncoder, ModelLibrary, ModelOptions
from stg_jax.extract.onnx.detector import OnnxDetector, split_layout
from stg_jax.extract.onnx.frame_encoder import OnnxFrameEncoder
from stg_jax.extract.onnx.normalization import find_config


class OnnxLibrary(ModelLibrary):
    """Opens exported detectors and frame encoders; their dtype is the one of the export."""

    example = 'onnx:FILE'

    def detector(self, model: str, options: ModelOptions) -> Detector:
        """See `ModelLibrary`."""
        return OnnxDetector(model, min_score=options.min_score, batch_size=options.batch_size)

    def frame_encoder(self, model: str, options: ModelOptions) -> FrameEncoder:
        """See `ModelLibrary`."""
        return OnnxFrameEncoder(model, batch_size=options.batch_size)

    def files(self, model: str) -> list[Path]:
        """See `ModelLibrary`: the model, external weights, and the settings of its pictures."""
        path = Path(split_layout(model)[0])
        if not path.is_file():
            raise UserError(f'the model file {path} does not exist')
        beside = [path.with_name(f'{path.name}{end}') for end in ('.data', '_data')]
        config = find_config(path)
        return [path, *filter(Path.is_file, beside), *([config] if config else [])]
