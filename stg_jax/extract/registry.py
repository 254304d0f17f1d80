"""The extractor that a data set's manifest names."""

from collections.abc import Mapping
from typing import Any

from stg_jax.errors import UserError
from stg_jax.extract.base import Extractor
from stg_jax.extract.pretrained import FeatureExtractor
from stg_jax.extract.toy_pixels.extractor import PixelExtractor

_EXTRACTORS = {kind.name: kind for kind in (PixelExtractor, FeatureExtractor)}


def build_extractor(settings: Mapping[str, Any]) -> Extractor:
    """Return the extractor that wrote these settings, ready to read videos the same way.

    Args:
      settings: the `extractor` object of a manifest.

    Raises:
      UserError: the features came from elsewhere, from another version of the extractor, or one of
        its models is not there any more.
    """
    name = settings.get('name')
    if name not in _EXTRACTORS:
        raise UserError(
            f"a raw video needs the extractor that made the training features, and '{name}' is "
            f"none of this project's (there are {', '.join(_EXTRACTORS)}): caption from feature "
            'files instead, or train on features extracted here'
        )
    version = _EXTRACTORS[name].version
    if settings.get('version') != version:
        raise UserError(
            f'the training features come from version {settings.get("version")} of the extractor '
            f"'{name}' and this is version {version}: extract the data set again and retrain"
        )
    try:
        return _EXTRACTORS[name].from_settings(settings)
    except KeyError as key:
        raise UserError(
            f"the manifest's extractor lacks {key}: write the data folder again with prepare.py"
        ) from None
