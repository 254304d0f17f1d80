"""Cut a frame encoder out of a detector's ONNX file: an image network without any download."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from stg_jax import files
from stg_jax.errors import UserError, first_line
from stg_jax.extract.onnx.detector import OnnxDetector
from stg_jax.extract.onnx.frame_encoder import OnnxFrameEncoder
from stg_jax.extract.onnx.normalization import PixelFormat

if TYPE_CHECKING:
    import onnx

# Between a convolution and what reads its map; Sigmoid and Mul together are a Swish.
_ACTIVATIONS = {'Sigmoid', 'Mul', 'Relu', 'LeakyRelu', 'HardSwish', 'BatchNormalization'}


def cut_backbone(detector: str | os.PathLike[str], out: str | os.PathLike[str]) -> int:
    """Write the part of a detector up to its last feature map as a frame encoder.

    Detectors enlarge the deepest map to join it with finer ones; the map before that is the last
    one of the backbone. The pixel format of the detector goes into the metadata of the new file.

    Args:
      detector: ONNX file, see `OnnxDetector`.
      out: file to write.

    Returns:
      Channels of the map.

    Raises:
      UserError: the file is not a detector, or lacks that map.
    """
    try:
        import onnx
        import onnx.shape_inference
        import onnx.utils
    except ImportError:
        raise UserError(
            "cutting a detector needs the package onnx: pip install -e '.[extract]'"
        ) from None
    opened = OnnxDetector(detector, min_score=0.5, batch_size=1)
    path = opened.model_path
    try:
        model = onnx.shape_inference.infer_shapes(onnx.load(path))
        name = _last_map(model.graph)
        if name is None:
            raise UserError(
                f'{path} enlarges no map to join it with finer ones, so the end of its backbone is '
                'not known: export the backbone by itself'
            )
        picture = next(x.name for x in model.graph.input if len(x.type.tensor_type.shape.dim) == 4)
        backbone = onnx.utils.Extractor(model).extract_model([picture], [name])
        onnx.helper.set_model_props(backbone, _metadata(opened.pixels))
        content = backbone.SerializeToString()
    except UserError:
        raise
    except Exception as error:  # onnx and protobuf have many, without a common base class
        raise UserError(f'{path} cannot be cut ({first_line(error)}): export it again') from None
    with files.write_file(Path(out)) as temporary:
        temporary.write_bytes(content)
    return OnnxFrameEncoder(out, batch_size=1).map_width


def _metadata(pixels: PixelFormat) -> dict[str, str]:
    """Write a pixel format as `normalization.find_pixel_format` reads it, for pixels in 0-1."""
    scaled = {'mean': pixels.mean, 'std': pixels.std}
    return {
        **{name: json.dumps([x / 255 for x in values]) for name, values in scaled.items()},
        'order': pixels.order,
    }


def _last_map(graph: 'onnx.GraphProto') -> str | None:
    """Name the map before the first enlargement; None if there is none."""
    maker = {name: node for node in graph.node for name in node.output}
    enlarged = (node.input[0] for node in graph.node if node.op_type in ('Resize', 'Upsample'))
    # The picture itself may be resized first; no node makes it.
    name = next((name for name in enlarged if name in maker), None)
    if name is None:
        return None
    narrowed = maker[name]
    while narrowed.op_type in _ACTIVATIONS and narrowed.input[0] in maker:
        narrowed = maker[narrowed.input[0]]
    # Pyramids first narrow the map, which loses channels that an encoder can use.
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    if narrowed.op_type == 'Conv':
        num_out, num_in, *kernel = weights.get(narrowed.input[1], (0, 0))
        if kernel == [1, 1] and num_in > num_out:
            return narrowed.input[0]
    return name
