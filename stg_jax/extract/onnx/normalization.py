"""How an exported network wants its pixels scaled: its own word where it has one."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stg_jax.errors import UserError
from stg_jax.files import read_json

CONFIG = 'preprocessor_config.json'


class PixelScale(NamedTuple):
    """What is subtracted from RGB pixels in 0-255, and what they are divided by then."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


BYTES = PixelScale((0, 0, 0), (1, 1, 1))
FRACTIONS = PixelScale((0, 0, 0), (255, 255, 255))
IMAGENET = PixelScale((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


def find_pixel_scale(path: Path, metadata: Mapping[str, str], default: PixelScale) -> PixelScale:
    """Return the pixel scale of an ONNX file.

    It is `mean` and `std` in the metadata of the file (JSON lists, for pixels in 0-1), else those
    of the `preprocessor_config.json` that Hugging Face Optimum writes beside an exported model or
    one folder up, else `default`.

    Raises:
      UserError: the numbers found are not three of each, or no standard deviations.
    """
    if 'mean' in metadata and 'std' in metadata:
        try:
            mean, std = json.loads(metadata['mean']), json.loads(metadata['std'])
        except json.JSONDecodeError:
            raise UserError(
                f"{path}: 'mean' and 'std' in its metadata are no JSON lists: export it again"
            ) from None
        return _pixel_scale(mean, std, 1 / 255, path)
    for folder in (path.parent, path.parent.parent):
        if (folder / CONFIG).is_file():
            return _from_config(folder / CONFIG)
    return default


def _from_config(path: Path) -> PixelScale:
    """Read the image processor's settings of a Hugging Face model."""
    config = read_json(path)
    if not isinstance(config, dict):
        raise UserError(f'{path} is not a JSON object: export the model again')
    factor = config.get('rescale_factor', 1 / 255) if config.get('do_rescale', True) else 1
    if not config.get('do_normalize', 'image_mean' in config):
        return _pixel_scale([0] * 3, [1] * 3, factor, path)
    return _pixel_scale(config.get('image_mean'), config.get('image_std'), factor, path)


def _pixel_scale(mean: Any, std: Any, factor: Any, path: Path) -> PixelScale:
    """Return a checked pixel scale from numbers that hold after multiplying by `factor`."""
    if not (_are_numbers([factor]) and _are_numbers(mean, 3) and _are_numbers(std, 3)):
        raise UserError(f'{path}: mean and std of the pixels are not three numbers each')
    if min(factor, *std) <= 0:
        raise UserError(f'{path}: the standard deviations of the pixels are not above zero')
    return PixelScale(*(tuple((np.array(x) / factor).tolist()) for x in (mean, std)))


def _are_numbers(values: Any, count: int = 1) -> bool:
    return (
        isinstance(values, Sequence)
        and len(values) == count
        and all(isinstance(x, int | float) and np.isfinite(x) for x in values)
    )
