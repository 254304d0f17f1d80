"""EfficientNet-Lite in Flax, for inference (Tan and Le, https://arxiv.org/abs/1905.11946).

The Lite variants (https://github.com/tensorflow/tpu, efficientnet/lite) have no squeeze and
excitation, use ReLU6, and have a stem and a head of the same width in all sizes.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

EMBEDDING = 1280  # channels of the head
_STEM = 32
_EPSILON = 1e-3  # of batch normalization


class Stage(NamedTuple):
    """Blocks of one width; the first one has the stride and changes the width."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    width: int


_STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


def scaled_stages(width: float, depth: float) -> tuple[Stage, ...]:
    """Scale the stages of Lite0 by factors; the first and the last keep their number of blocks."""
    middle = range(1, len(_STAGES) - 1)
    return tuple(
        stage._replace(
            blocks=math.ceil(depth * stage.blocks) if k in middle else stage.blocks,
            width=_multiple_of_eight(width * stage.width),
        )
        for k, stage in enumerate(_STAGES)
    )


def _multiple_of_eight(width: float) -> int:
    rounded = max(8, int(width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * width else rounded


class EfficientNetLite(nn.Module):
    """Map pictures (B, h, w, 3) to embeddings (B, EMBEDDING) and maps (B, h / 32, w / 32, C).

    The map is the output of the last stage, before the head; C is the width of that stage.

    Attributes:
      stages: see `scaled_stages`.
      dtype: of the computation.
    """

    stages: tuple[Stage, ...]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, picture_Bhw3: jax.Array) -> tuple[jax.Array, jax.Array]:
        """See the class; pixels are (RGB in 0-255 - 127) / 128."""
        stem = nn.Conv(_STEM, (3, 3), 2, 'SAME', precision='highest', dtype=self.dtype, name='stem')
        x_BhwC = nn.relu6(stem(picture_Bhw3))
        for k, (stage, stride) in enumerate(blocks(self.stages)):
            x_BhwC = self._block(f'block{k}', stage, stride, x_BhwC)
        head_BhwC = nn.relu6(self._dense('head', EMBEDDING)(x_BhwC))
        return head_BhwC.mean(axis=(1, 2), dtype=jnp.float32), x_BhwC.astype(jnp.float32)

    def _block(self, name: str, stage: Stage, stride: int, x_BhwC: jax.Array) -> jax.Array:
        """Expand, convolve each channel, project; add the input if it has the same shape."""
        y_BhwC, width = x_BhwC, x_BhwC.shape[-1] * stage.expansion
        if stage.expansion > 1:
            y_BhwC = nn.relu6(self._dense(f'{name}_expand', width)(y_BhwC))
        depthwise = DepthwiseConv(stage.kernel, stride, self.dtype, name=f'{name}_depthwise')
        y_BhwC = self._dense(f'{name}_project', stage.width)(nn.relu6(depthwise(y_BhwC)))
        return y_BhwC + x_BhwC if y_BhwC.shape == x_BhwC.shape else y_BhwC

    def _dense(self, name: str, width: int) -> nn.Dense:
        """Make a convolution with a kernel of 1 x 1."""
        # Highest precision: with an accelerator's default the features would depend on the machine.
        return nn.Dense(width, precision='highest', dtype=self.dtype, name=name)


class DepthwiseConv(nn.Module):
    """Convolve each channel of (B, h, w, C) with a kernel of its own, padded like TensorFlow.

    Attributes:
      kernel: height and width of the kernel.
      stride: of rows and columns.
      dtype: of the computation.
    """

    kernel: int
    stride: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x_BhwC: jax.Array) -> jax.Array:
        """See the class."""
        num_rows, num_columns, width = x_BhwC.shape[1:]
        kernel_kkC = self.param(
            'kernel', nn.initializers.lecun_normal(), (self.kernel, self.kernel, width)
        )
        bias_C = self.param('bias', nn.initializers.zeros, (width,))
        out = [-(-side // self.stride) for side in (num_rows, num_columns)]
        reach = [(side - 1) * self.stride + 1 for side in out]  # from the first read to the last
        total = [
            max(0, r + self.kernel - 1 - side)
            for r, side in zip(reach, (num_rows, num_columns), strict=True)
        ]
        padding = [(0, 0), *((each // 2, each - each // 2) for each in total), (0, 0)]
        padded_BhwC = jnp.pad(x_BhwC.astype(self.dtype), padding)
        # A sum of shifted products, which XLA fuses. On a CPU, XLA's own convolution with one group
        # for each channel takes 2 to 20 times as long.
        y_BhwC = bias_C.astype(self.dtype)
        for i, j in itertools.product(range(self.kernel), repeat=2):
            rows = slice(i, i + reach[0], self.stride)
            columns = slice(j, j + reach[1], self.stride)
            y_BhwC = y_BhwC + padded_BhwC[:, rows, columns] * kernel_kkC[i, j].astype(self.dtype)
        return y_BhwC


def blocks(stages: tuple[Stage, ...]) -> Iterator[tuple[Stage, int]]:
    """Yield the stage and the stride of every block."""
    for stage in stages:
        for k in range(stage.blocks):
            yield stage, stage.stride if k == 0 else 1


def params_of(
    tensors: Mapping[str, np.ndarray], stages: tuple[Stage, ...]
) -> dict[str, dict[str, np.ndarray]]:
    """Convert the tensors of the PyTorch port to parameters of an `EfficientNetLite`.

    Batch normalization is folded into the convolution before it: at inference both are linear.

    Raises:
      KeyError: a tensor is missing.
    """
    params = {
        'stem': _folded(tensors, '_conv_stem', '_bn0'),
        'head': _folded(tensors, '_conv_head', '_bn1'),
    }
    for k, (stage, _) in enumerate(blocks(stages)):
        parts = [('depthwise', '_bn1'), ('project', '_bn2')]
        if stage.expansion > 1:
            parts.append(('expand', '_bn0'))
        for part, norm in parts:
            block = f'_blocks.{k}.'
            params[f'block{k}_{part}'] = _folded(tensors, f'{block}_{part}_conv', block + norm)
    return params


def _folded(tensors: Mapping[str, np.ndarray], conv: str, norm: str) -> dict[str, np.ndarray]:
    scale, bias, mean, variance = (
        tensors[f'{norm}.{name}'] for name in ('weight', 'bias', 'running_mean', 'running_var')
    )
    scale = scale / np.sqrt(variance + _EPSILON)
    # From (output, input, height, width) to the order of Flax. Axes of length 1, which `squeeze`
    # removes, are height and width of a 1 x 1 kernel, or the input of a depthwise one.
    kernel = tensors[f'{conv}.weight'].transpose(2, 3, 1, 0).squeeze() * scale
    return {'kernel': kernel, 'bias': bias - mean * scale}
