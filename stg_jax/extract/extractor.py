"""Choose the extractor that a data set's manifest names."""

from collections.abc import Mapping
from typing import Any

from stg_jax.errors import UserError
from stg_jax.extract.pixels import VERSION, PixelExtractor


def build_extractor(settings: Mapping[str, Any]) -> PixelExtractor:
    """Return the extractor that wrote these settings, ready to read videos the same way.

    Args:
      settings: the `extractor` object of a manifest.

    Raises:
      UserError: the features came from elsewhere, or from another version of the extractor.
    """
    name = settings.get('name')
    if name != 'pixels':
        raise UserError(
            f"a raw video needs the extractor that made the training features, and '{name}' is "
            "none of this project's (there is 'pixels'): caption from feature files instead, or "
            'train on features extracted here'
        )
    if settings.get('version') != VERSION:
        raise UserError(
            f'the training features come from version {settings.get("version")} of the extractor '
            f"'pixels' and this is version {VERSION}: extract the data set again and retrain"
        )
    try:
        return PixelExtractor(settings['frames'], settings['objects'])
    except KeyError as key:
        raise UserError(
            f"the manifest's extractor lacks {key}: write the data folder again with prepare.py"
        ) from None
