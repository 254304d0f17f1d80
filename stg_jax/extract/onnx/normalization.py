"""How an exported network wants its pictures: as its own files say, if they do."""

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

# Steps of Hugging Face's image processors that are obeyed or change no pixel, and those that are
# judged by `find_geometry`. Any other step that is switched on is refused.
_KNOWN_STEPS = {
    *('do_rescale', 'do_normalize', 'do_flip_channel_order'),
    *('do_convert_rgb', 'do_convert_annotations', 'do_reduce_labels'),
}
_GEOMETRY_STEPS = ('do_resize', 'do_center_crop', 'do_pad', 'do_thumbnail', 'do_image_splitting')
_FILTERS = ('nearest', 'lanczos', 'bilinear', 'bicubic', 'box', 'hamming')  # by Pillow's numbers
_SIDES = 8, 4096  # least and most pixels of a side that is believed


class Geometry(NamedTuple):
    """How a frame is brought to the input of a network; it is always stretched to it whole.

    Attributes:
      size: height and width, None if the settings do not say.
      is_sharp: whether the nearest pixel is taken, and not an average.
    """

    size: tuple[int, int] | None = None
    is_sharp: bool = False


def find_pixel_format(path: Path, metadata: Mapping[str, str], default: PixelFormat) -> PixelFormat:
    """Find the pixel format of an ONNX file.

    It is `mean` and `std` in the metadata of the file (JSON lists, for pixels in 0-1), with `order`
    ('rgb' or 'bgr') if it is there, else what the file of `find_config` says, else `default`.

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
        order = metadata.get('order', default.order)
        if order not in ('rgb', 'bgr'):
            raise UserError(
                f"{path}: 'order' in its metadata is neither rgb nor bgr: export it again"
            )
        return _checked(mean, std, 1 / 255, path)._replace(order=order)
    # The metadata is part of the file and cannot be lost; a config beside it can.
    config = find_config(path)
    return _from_config(config) if config else default


def find_config(path: Path) -> Path | None:
    """Find the settings that Hugging Face Optimum writes beside a model, or one folder up."""
    found = (folder / CONFIG for folder in (path.parent, path.parent.parent))
    return next(filter(Path.is_file, found), None)


def find_geometry(path: Path, *, has_free_size: bool) -> Geometry:
    """Find the input size and the filter of the frame encoder in an ONNX file.

    Args:
      path: of the ONNX file.
      has_free_size: whether the file leaves height or width open, so that the settings decide.

    Raises:
      UserError: the settings are damaged, or ask for pixels that stretching does not give.
    """
    config = find_config(path)
    if config is None:
        return Geometry()
    settings = _read_config(config)
    _refuse_parts_of_frames(config, settings)
    resample = settings.get('resample', settings.get('interpolation'))
    return Geometry(
        _size(config, settings) if has_free_size else None,
        resample is not None and _filter_name(config, resample) == 'nearest',
    )


def _refuse_parts_of_frames(path: Path, settings: Mapping[str, Any]) -> None:
    """Refuse steps that cut off or add pixels: a map must cover the frame and nothing else."""
    steps = {step: settings.get(step) for step in _GEOMETRY_STEPS if step != 'do_resize'}
    # Old settings leave out steps that are the default of their class.
    steps['do_center_crop'] = settings.get('do_center_crop', 'crop_size' in settings)
    steps['crop_pct'] = settings.get('crop_pct') not in (None, 1)
    for step, is_on in steps.items():
        if is_on:
            off = 1 if step == 'crop_pct' else 'false'
            raise UserError(
                f'{path} asks for {step}, which shows the network another part of the picture than '
                f'the whole frame, where objects are: set {step} to {off}, and frames are '
                'stretched to the input'
            )


def _size(path: Path, settings: Mapping[str, Any]) -> tuple[int, int] | None:
    """Read height and width of the pictures that a model was trained on."""
    size = settings.get('size')
    if size is None:
        return None
    sides: Any = size
    if isinstance(size, int):
        sides = [size, size]
    elif isinstance(size, dict):
        shortest = size.get('shortest_edge')
        sides = [size.get('height', shortest), size.get('width', shortest)]
        # Limits of both sides, or of the longer one, mean another shape for every picture.
        if not size.keys() <= {'height', 'width', 'shortest_edge'}:
            sides = []
    is_pair = settings.get('do_resize', True) and isinstance(sides, list) and len(sides) == 2
    if is_pair and all(type(side) is int and _SIDES[0] <= side <= _SIDES[1] for side in sides):
        return sides[0], sides[1]
    raise UserError(
        f'{path} names no single height and width (do_resize {settings.get("do_resize", True)}, '
        f'size {size}), and the network takes any: export it with fixed sizes, or name both'
    )


def _filter_name(path: Path, resample: Any) -> str:
    """Name the filter, which may be given by its number in PIL."""
    if type(resample) is int and 0 <= resample < len(_FILTERS):
        return _FILTERS[resample]
    if str(resample).lower() in _FILTERS:
        return str(resample).lower()
    raise UserError(
        f'{path} asks for resample {resample!r}, which is none of {", ".join(_FILTERS)} or their '
        f'numbers, 0 to {len(_FILTERS) - 1}: name one of them'
    )


def _from_config(path: Path) -> PixelFormat:
    """Translate the settings of an image processor."""
    config = _read_config(path)
    unknown = [
        key
        for key, value in config.items()
        if key.startswith('do_') and value and key not in (*_KNOWN_STEPS, *_GEOMETRY_STEPS)
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
