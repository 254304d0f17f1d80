"""The table of extractors: a new one is one file and one row."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stg_jax.errors import UserError
from stg_jax.extract.base import Extractor
from stg_jax.extract.pretrained import FeatureExtractor
from stg_jax.extract.toy_pixels.extractor import PixelExtractor

EXTRACTORS: dict[str, type[Extractor]] = {
    kind.name: kind
    for kind in (
        FeatureExtractor,
        PixelExtractor,
    )
}

# Folder of an exported model that holds the model files of its extractor.
MODELS = 'extractor'


def extractor_class(name: str) -> type[Extractor]:
    """Look up an extractor by its name on the command line.

    Raises:
      UserError: the extractor does not exist.
    """
    if name not in EXTRACTORS:
        raise UserError(f"there is no extractor '{name}': use {' or '.join(EXTRACTORS)}")
    return EXTRACTORS[name]


def build_extractor(
    settings: Mapping[str, Any], folder: str | os.PathLike[str] | None = None
) -> Extractor:
    """Build the extractor that a data set's manifest describes.

    Args:
      settings: the `extractor` object of the manifest.
      folder: of an exported model, whose manifest names files within it.

    Raises:
      UserError: the features came from elsewhere or from another version of the extractor, or one
        of its models is missing.
    """
    # Features of other people's files have the name 'files'.
    name = settings.get('name')
    if name not in EXTRACTORS:
        raise UserError(
            f"a raw video needs the extractor that made the training features, and '{name}' is "
            f"none of this project's (there are {', '.join(EXTRACTORS)}): caption from feature "
            'files instead, or train on features extracted here'
        )
    version = EXTRACTORS[name].version
    if settings.get('version') != version:
        raise UserError(
            f'the training features come from version {settings.get("version")} of the extractor '
            f"'{name}' and this is version {version}: extract the data set again and retrain"
        )
    try:
        return EXTRACTORS[name].from_settings(_in_folder(settings, folder))
    except KeyError as key:
        raise UserError(
            f"the manifest's extractor lacks {key}: write the data folder again with prepare.py"
        ) from None


def _in_folder(
    settings: Mapping[str, Any], folder: str | os.PathLike[str] | None
) -> Mapping[str, Any]:
    """Name the files that are in the folder of an exported model by their paths."""
    if folder is None or not (Path(folder) / MODELS).is_dir():
        return settings

    def located(value: Any) -> Any:
        library, _, model = value.partition(':') if isinstance(value, str) else ('', '', '')
        return f'{library}:{Path(folder) / model}' if model.startswith(f'{MODELS}/') else value

    digests = {located(name): digest for name, digest in settings.get('digests', {}).items()}
    return {key: located(value) for key, value in settings.items()} | {'digests': digests}
