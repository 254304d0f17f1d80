"""Tiny networks in ONNX files: their outputs are known, and may lean on one pixel."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HALF, FULL = TensorProto.FLOAT16, TensorProto.FLOAT


def save(path, nodes, inputs, outputs, *, metadata=None, constants=None):
    """Write a graph of `nodes`; inputs and outputs are (name, type, shape)."""
    values = (
        [helper.make_tensor_value_info(*x) for x in inputs],
        [helper.make_tensor_value_info(*x) for x in outputs],
    )
    tensors = [numpy_helper.from_array(v, k) for k, v in (constants or {}).items()]
    graph = helper.make_graph(nodes, 'tiny', *values, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=10)
    helper.set_model_props(model, metadata or {})
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def save_constant(
    path, outputs, *, size=(64, 64), batch='batch', pixel=(0, 0, 0), gain=None, **options
):
    """Write a network that gives the same `outputs`, by name, for every picture of a batch.

    `gain` by output name is what one `pixel` (channel, y, x) adds, times its value. `others` are
    further inputs, which the network ignores.
    """
    others = options.pop('others', [])
    kind = options.pop('kind', FULL)
    dtype = np.float16 if kind == HALF else np.float32
    constants = {
        'start': np.array(pixel, np.int64),
        'end': np.array(pixel, np.int64) + 1,
        'axes': np.array([1, 2, 3], np.int64),
    }
    nodes = [helper.make_node('Slice', ['images', 'start', 'end', 'axes'], ['one'])]
    infos = []
    for name, value in outputs.items():
        value = np.asarray(value)
        constants[f'{name}.at'] = value[None].astype(dtype)
        constants[f'{name}.gain'] = np.broadcast_to(
            np.asarray((gain or {}).get(name, 0), dtype), constants[f'{name}.at'].shape
        ).copy()
        constants[f'{name}.shape'] = np.array([-1] + [1] * value.ndim, np.int64)
        kept = TensorProto.INT64 if value.dtype.kind == 'i' else kind
        nodes += [
            helper.make_node('Reshape', ['one', f'{name}.shape'], [f'{name}.one']),
            helper.make_node('Mul', [f'{name}.one', f'{name}.gain'], [f'{name}.more']),
            helper.make_node('Add', [f'{name}.more', f'{name}.at'], [f'{name}.sum']),
            helper.make_node('Cast', [f'{name}.sum'], [name], to=kept),
        ]
        infos.append((name, kept, [batch, *value.shape]))
    inputs = [('images', kind, [batch, 3, *size]), *others]
    return save(path, nodes, inputs, infos, constants=constants, **options)


def save_encoder(path, *, size=(64, 96), batch='batch', channels_last=False, pool=32, **options):
    """Write a network whose embedding and map are the mean colours of the picture and its cells.

    `outputs` names those that are given, of 'embedding', 'map' and 'map_last'.
    """
    given = options.pop('outputs', ('embedding', 'map'))
    shape = [batch, *size, 3] if channels_last else [batch, 3, *size]
    first = 'first' if channels_last else 'images'
    nodes = [
        helper.make_node('Transpose', ['images'], ['first'], perm=[0, 3, 1, 2]),
        helper.make_node('ReduceMean', [first], ['embedding'], axes=[2, 3], keepdims=0),
        helper.make_node(
            'AveragePool', [first], ['map'], kernel_shape=[pool] * 2, strides=[pool] * 2
        ),
        helper.make_node('Transpose', ['map'], ['map_last'], perm=[0, 2, 3, 1]),
    ]
    nodes = [n for n in nodes if channels_last or n.output[0] != 'first']
    rank = {'embedding': 2, 'map': 4, 'map_last': 4}
    outputs = [(name, FULL, [batch] + [None] * (rank[name] - 1)) for name in given]
    return save(path, nodes, [('images', FULL, shape)], outputs, **options)
