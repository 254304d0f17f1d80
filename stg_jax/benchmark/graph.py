"""The suite 'graph': the banded object graph against the dense one, forward and backward."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from stg_jax.benchmark.synthetic import random_features
from stg_jax.benchmark.timing import Spread, rate, ratio, seconds_in_turn
from stg_jax.model.encoders import ObjectEncoder
from stg_jax.model.graph import (
    build_graph,
    degree_scale,
    masked_softmax,
    pairwise_cosine,
    pairwise_iou,
)
from stg_jax.ops.band_messages import matrix_messages


@struct.dataclass
class DenseGraph:
    """S G S over all O = T * N nodes of a clip, as one matrix (B, O, O)."""

    adj_BOO: jax.Array

    def propagate(self, node_BTND: jax.Array) -> jax.Array:
        """Return S G S H."""
        return matrix_messages(self.adj_BOO, node_BTND)


def build_dense_graph(
    object_BTNC: jax.Array,
    box_BTN4: jax.Array,
    mask_BTN: jax.Array,
    *,
    kind: str,
    direction: str,
) -> DenseGraph:
    """Compare every object of a clip with every other, then keep the links that the kind has.

    Arguments and graph are those of `stg_jax.model.graph.build_graph`.
    """
    B, T, N, C = object_BTNC.shape
    # All nodes as those of one frame: its pairs are all pairs.
    object_B1OC, box_B1O4 = object_BTNC.reshape(B, 1, T * N, C), box_BTN4.reshape(B, 1, T * N, 4)
    present_BO = mask_BTN.reshape(B, T * N)
    both_BOO = present_BO[:, :, None] & present_BO[:, None, :]
    if kind == 'dense':
        return _normalised(both_BOO.astype(jnp.float32))
    frame_O = jnp.repeat(jnp.arange(T), N)
    same_OO = frame_O[:, None] == frame_O
    if kind == 'temporal':
        same_OO = jnp.eye(T * N, dtype=bool)
    adj_BOO = masked_softmax(pairwise_iou(box_B1O4)[:, 0], both_BOO & same_OO)
    if kind != 'spatial':
        next_OO = frame_O[:, None] + 1 == frame_O
        time_BOO = masked_softmax(
            pairwise_cosine(object_B1OC, object_B1OC)[:, 0], both_BOO & next_OO
        )
        adj_BOO += {
            'literal': lambda: time_BOO,
            'forward': lambda: time_BOO.mT,
            'both': lambda: time_BOO + time_BOO.mT,
        }[direction]()
    return _normalised(adj_BOO)


def _normalised(adj_BOO):
    scale_BO = degree_scale(adj_BOO.sum(-1))
    return DenseGraph(scale_BO[:, :, None] * adj_BOO * scale_BO[:, None, :])


FRAMES, OBJECTS = (10, 20, 40, 80, 160, 320), (5, 10, 20, 40, 80)
_CLIPS = 4
_ROUNDS = 5

Stage = dict[str, Any]


def run(config: Any) -> list[Stage]:
    """Return time and memory for more and more frames, and for more and more objects.

    Returns:
      For each size the stages 'build' (from features and boxes to the graph), 'convolve' (as many
      graph convolutions as the encoder has, without its dense layers; forward and backward),
      'graph' (the two together) and 'encoder' (all of the object branch before its decoder, forward
      and backward). Each has 'clips_per_s' of the banded graph; 'to_dense', how many times as fast
      as the dense one it is; 'banded_mb' and 'dense_mb', memory of a graph where there is one, and
      of what is made on the way; and 'mb_to_dense', how many times as much the dense graph takes.
    """
    frames, objects = config.data.frames, config.data.objects
    sizes = [(num_frames, objects) for num_frames in FRAMES]
    sizes += [(frames, num_objects) for num_objects in OBJECTS if num_objects != objects]
    return [stage for size in sizes for stage in _stages(config, *size)]


def _stages(config, num_frames, num_objects) -> list[Stage]:
    config = config.copy_and_resolve_references()
    config.data.frames, config.data.objects = num_frames, num_objects
    batch = jax.device_put(random_features(config, _CLIPS, 0))
    stages = []
    for part, make in _PARTS.items():
        calls = {name: make(config.model, batch, name == 'dense') for name in ('banded', 'dense')}
        seconds = seconds_in_turn({name: call for name, (call, _) in calls.items()}, _ROUNDS)
        banded_mb, dense_mb = (memory_mb for _, memory_mb in calls.values())
        stages.append(
            {
                'stage': f'{part} T={num_frames} N={num_objects}',
                'clips_per_s': _fields(rate(_CLIPS, seconds['banded'])),
                'to_dense': _fields(ratio(seconds['banded'], seconds['dense'])),
                'banded_mb': banded_mb,
                'dense_mb': dense_mb,
                'mb_to_dense': dense_mb / banded_mb,
            }
        )
    return stages


def _build(model, batch, is_dense):
    compiled = _compile(lambda batch: _graph(model, batch, is_dense), batch)
    return _call(compiled, batch), _temporary_mb(compiled) + _mb(compiled(batch))


def _convolve(model, batch, is_dense):
    graph = jax.jit(lambda batch: _graph(model, batch, is_dense))(batch)
    node_BTND = _nodes(model, batch)
    compiled = _compile(jax.value_and_grad(_convolutions(model)), node_BTND, graph)
    return _call(compiled, node_BTND, graph), _temporary_mb(compiled) + _mb(graph)


def _build_and_convolve(model, batch, is_dense):
    convolutions, node_BTND = _convolutions(model), _nodes(model, batch)

    def loss(node_BTND, batch):
        return convolutions(node_BTND, _graph(model, batch, is_dense))

    compiled = _compile(jax.value_and_grad(loss), node_BTND, batch)
    return _call(compiled, node_BTND, batch), _temporary_mb(compiled)


def _nodes(model, batch):
    shape = (*batch['object_mask'].shape, model.width)
    return jax.random.normal(jax.random.key(0), shape, jnp.dtype(model.dtype))


def _convolutions(model):
    """Return a loss of node states and graph, through all layers but their products with W."""

    def loss(node_BTND, graph):
        for _ in range(model.graph_layers):
            node_BTND = jax.nn.relu(node_BTND + graph.propagate(node_BTND))
        return jnp.sum(node_BTND.astype(jnp.float32))

    return loss


def _encoder(model, batch, is_dense):
    """Run the whole encoder, with the gradient for its parameters."""
    encoder = ObjectEncoder(
        model.width, model.graph_layers, model.graph_norm, jnp.dtype(model.dtype)
    )

    def apply(method, params, batch):
        graph = _graph(model, batch, is_dense)
        node_BTNC = batch['object'].astype(model.dtype)
        return method(params, node_BTNC, batch['object_mask'], graph)

    def loss(params, batch):
        return jnp.sum(apply(encoder.apply, params, batch).astype(jnp.float32))

    params = jax.jit(lambda batch: apply(encoder.init, jax.random.key(0), batch))(batch)
    compiled = _compile(jax.value_and_grad(loss), params, batch)
    return _call(compiled, params, batch), _temporary_mb(compiled)


def _graph(model, batch, is_dense):
    build = build_dense_graph if is_dense else build_graph
    return build(
        batch['object'],
        batch['box'],
        batch['object_mask'],
        kind=model.graph,
        direction=model.temporal_direction,
    )


def _compile(function, *args):
    return jax.jit(function).lower(*args).compile()


def _call(compiled, *args):
    return lambda: jax.block_until_ready(compiled(*args))


def _temporary_mb(compiled):
    return compiled.memory_analysis().temp_size_in_bytes / 1e6


def _mb(tree):
    return sum(x.nbytes for x in jax.tree.leaves(tree)) / 1e6


def _fields(spread: Spread) -> dict[str, float]:
    return dataclasses.asdict(spread)


_PARTS = {
    'build': _build,
    'convolve': _convolve,
    'graph': _build_and_convolve,
    'encoder': _encoder,
}
