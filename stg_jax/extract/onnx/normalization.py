"""How an exported network wants its pixels: as its own files say, if they do."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from stg_jax.errors import UserError
from stg_jax.files import read_json

CONFIG = 'preprocessor_config.json'
Order = Literal['rgb', 'bgr']


class PixelFormat(NamedTuple):
    """The input of a network: (RGB pixels in 0-255 - mean) / std, channels in `order`."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    order: Order = 'rgb'


BYTES = PixelFormat((0, 0, 0), (1, 1, 1))
FRACTIONS = PixelFormat((0, 0, 0), (255, 255, 255))
IMAGENET = PixelFormat((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))

# Steps of Hugging Face's image processors that are obeyed or mean nothing here: sizes, crops and
# padding, because every frame is brought to the network's input whole, and conversions of files and
# annotations. Any other step that is switched on would change the pixels, and is refused.
_KNOWN_STEPS = {
    *('do_rescale', 'do_normalize', 'do_flip_channel_order'),
    *('do_resize', 'do_center_crop', 'do_pad', 'do_thumbnail', 'do_image_splitting'),
    *('do_convert_rgb', 'do_convert_annotations', 'do_reduce_labels'),
}


def find_pixel_format(path: Path, metadata: Mapping[str, str], default: PixelFormat) -> PixelFormat:
    """Find the pixel format of an ONNX file.

    It is `mean` and `std` in the metadata of the file (JSON lists, for pixels in 0-1), else what
    the file of `find_config` says, else `default`.

    Raises:
      UserError: the settings found are damaged, or ask for a step that is not implemented.
    """
    if 'mean' in metadata and 'std' in metadata:
        try:
            mean, std = json.loads(metadata['mean']), json.loads(metadata['std'])
        except json.JSONDecodeError:
            raise UserError(
                f"{path}: 'mean' and 'std' in its metadata are not JSON lists: export it again"
            ) from None
        return _checked(mean, std, 1 / 255, path)._replace(order=default.order)
    # The metadata is part of the file and cannot be lost; a config beside it can.
    config = find_config(path)
    return _from_config(config) if config else default


def find_config(path: Path) -> Path | None:
    """Find the settings that Hugging Face Optimum writes beside a model, or one folder up."""
    found = (folder / CONFIG for folder in (path.parent, path.parent.parent))
    return next(filter(Path.is_file, found), None)


def input_side(path: Path) -> int | None:
    """Read the side of the pictures that a model was trained on; None if its files do not say."""
    config = find_config(path)
    settings = _read_config(config) if config else {}
    crop = settings.get('crop_size') if settings.get('do_center_crop') else None
    size = crop or settings.get('size')
    if isinstance(size, dict):
        sides = {size.get(key) for key in ('height', 'width', 'shortest_edge') if key in size}
        # Different sides, or a longest one, mean another shape for every picture.
        size = sides.pop() if len(sides) == 1 and 'longest_edge' not in size else None
    return size if isinstance(size, int) and 8 <= size <= 4096 else None


def _from_config(path: Path) -> PixelFormat:
    """Translate the settings of an image processor."""
    config = _read_config(path)
    unknown = [
        key
        for key, value in config.items()
        if key.startswith('do_') and value and key not in _KNOWN_STEPS
    ]
    if unknown:
        raise UserError(
            f'{path}: the step {unknown[0]} is not implemented here: export a model without it, or '
            'set it to false if the network does not need it'
        )
    rescales = config.get('do_rescale', True)
    factor = config.get('rescale_factor', 1 / 255) if rescales else 1
    mean, std = [0] * 3, [1] * 3
    # Old configs lack do_normalize, and name a mean only if it is used.
    if config.get('do_normalize', 'image_mean' in config):
        mean, std = config.get('image_mean'), config.get('image_std')
    found = _checked(mean, std, factor, path)
    # EfficientNet and ViViT shift pixels by -1 after scaling them, to -1 to 1.
    if rescales and (config.get('rescale_offset') or config.get('offset')):
        found = found._replace(mean=tuple(x + 1 / factor for x in found.mean))
    # EfficientNet's classifiers divide by the standard deviation a second time.
    if config.get('include_top'):
        again = _checked([0] * 3, config.get('image_std'), 1, path).std
        found = found._replace(std=tuple(x * y for x, y in zip(found.std, again, strict=True)))
    return found._replace(order='bgr' if config.get('do_flip_channel_order') else 'rgb')


def _read_config(path: Path) -> dict[str, Any]:
    config = read_json(path)
    if not isinstance(config, dict):
        raise UserError(f'{path} is not a JSON object: export the model again')
    return config


def _checked(mean: Any, std: Any, factor: Any, path: Path) -> PixelFormat:
    """Build a format from numbers that apply after multiplying pixels by `factor`."""
    if not (_are_numbers([factor]) and _are_numbers(mean, 3) and _are_numbers(std, 3)):
        raise UserError(f'{path}: mean and std of the pixels are not three numbers each')
    if min(factor, *std) <= 0:
        raise UserError(f'{path}: the standard deviations of the pixels are not above zero')
    mean, std = (tuple((np.array(x) / factor).tolist()) for x in (mean, std))
    return PixelFormat(mean, std)


def _are_numbers(values: Any, count: int = 1) -> bool:
    return (
        isinstance(values, Sequence)
        and len(values) == count
        and all(isinstance(x, int | float) and np.isfinite(x) for x in values)
    )
