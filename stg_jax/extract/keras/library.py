"""Models of Keras Hub: keras:PRESET, a name that the library knows or a folder."""

from pathlib import Path

from stg_jax.extract.base import ClipEncoder, Detector, FrameEncoder, ModelLibrary, ModelOptions


class KerasLibrary(ModelLibrary):
    """Loads presets; Keras and TensorFlow are imported at the first one, which takes seconds."""

    example = 'keras:resnet_50_imagenet'

    def detector(self, model: str, options: ModelOptions) -> Detector:
        """See `ModelLibrary`."""
        # Imported here: TensorFlow, which Keras Hub needs, takes seconds.
        from stg_jax.extract.keras.detector import KerasDetector

        return KerasDetector(
            model,
            min_score=options.min_score,
            batch_size=options.batch_size,
            dtype=options.dtype,
        )

    def frame_encoder(self, model: str, options: ModelOptions) -> FrameEncoder:
        """See `ModelLibrary`."""
        from stg_jax.extract.keras.frame_encoder import KerasFrameEncoder

        return KerasFrameEncoder(model, batch_size=options.batch_size, dtype=options.dtype)

    def clip_encoder(
        self, model: str, options: ModelOptions, frame_encoder: FrameEncoder
    ) -> ClipEncoder:
        """See `ModelLibrary`."""
        from stg_jax.extract.keras.clip_encoder import KerasClipEncoder

        return KerasClipEncoder(model, batch_size=options.batch_size, dtype=options.dtype)

    def check(self, part: str, model: str) -> None:
        """See `ModelLibrary`."""
        from stg_jax.extract.keras.preset import check_preset

        check_preset('ObjectDetector' if part == 'detector' else 'Backbone', model)

    def files(self, model: str) -> list[Path]:
        """See `ModelLibrary`; a preset that is downloaded by its name has no files here."""
        return sorted(path for path in Path(model).rglob('*') if path.is_file())
