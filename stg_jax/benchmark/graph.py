"""The suite 'graph': the banded object graph against the dense one, forward and backward."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from stg_jax.benchmark.synthetic import random_features
from stg_jax.benchmark.timing import Stage, rate, speedup, time_interleaved
from stg_jax.config import Config
from stg_jax.model.encoders import ObjectEncoder, mean_of_objects
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
        """Compute S G S H."""
        return matrix_messages(self.adj_BOO, node_BTND)


def build_dense_graph(
    object_BTNC: jax.Array,
    box_BTN4: jax.Array,
    mask_BTN: jax.Array,
    *,
    kind: str,
    direction: str,
) -> DenseGraph:
    """Compute the similarity of every pair of objects of a clip, then mask the pairs to link.

    Arguments and edge weights are those of `stg_jax.model.graph.build_graph`.
    """
    B, T, N, C = object_BTNC.shape
    # All nodes form one frame, so that its pairs are all pairs of the clip.
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
            # Lambdas, so that only the chosen direction is computed.
            'both': lambda: time_BOO + time_BOO.mT,
        }[direction]()
    return _normalised(adj_BOO)


def _normalised(adj_BOO):
    scale_BO = degree_scale(adj_BOO.sum(-1))
    return DenseGraph(scale_BO[:, :, None] * adj_BOO * scale_BO[:, None, :])


# Sizes double, so that the order of growth can be read from two neighbors.
FRAMES, OBJECTS = (10, 20, 40, 80, 160, 320), (5, 10, 20, 40, 80)
_CLIPS = 4
_ROUNDS = 5


def run(config: Config) -> list[Stage]:
    """Measure time and memory while the number of frames grows, then the number of objects.

    Returns:
      For each size the stages 'build' (from features and boxes to the graph), 'convolve' (the graph
      convolutions of the encoder without their dense layers, forward and backward), 'graph' (both
      together) and 'encoder' (the whole object encoder, forward and backward). Each has
      'clips_per_s' of the banded graph; 'to_dense', its speed relative to the dense graph;
      'banded_mb' and 'dense_mb', memory of the graph and of temporary arrays; and 'mb_to_dense',
      the memory of the dense graph relative to the banded one.
    """
    frames, objects = config.data.frames, config.data.objects
    sizes = [(num_frames, objects) for num_frames in FRAMES]
    # The size of the config is in both lists; it is measured once.
    sizes += [(frames, num_objects) for num_objects in OBJECTS if num_objects != objects]
    return [stage for size in sizes for stage in _stages(config, *size)]


def _stages(config, num_frames, num_objects) -> list[Stage]:
    config = config.changed(data__frames=num_frames, data__objects=num_objects)
    batch = jax.device_put(random_features(config, _CLIPS, 0))
    stages = []
    for part, make in _PARTS.items():
        # Both variants run in the same rounds, so that their ratio does not drift.
        calls = {name: make(config.model, batch, name == 'dense') for name in ('banded', 'dense')}
        seconds = time_interleaved({name: call for name, (call, _) in calls.items()}, _ROUNDS)
        banded_mb, dense_mb = (memory_mb for _, memory_mb in calls.values())
        stages.append(
            {
                'stage': f'{part} T={num_frames} N={num_objects}',
                'clips_per_s': rate(_CLIPS, seconds['banded']).as_json(),
                'to_dense': speedup(seconds['banded'], seconds['dense']).as_json(),
                'banded_mb': banded_mb,
                'dense_mb': dense_mb,
                'mb_to_dense': dense_mb / banded_mb,
            }
        )
    return stages


def _build(model, batch, is_dense):
    compiled = _compile(lambda batch: _graph(model, batch, is_dense), batch)
    # The graph is an output here, so its memory is not among the temporary arrays.
    return _call(compiled, batch), _temporary_mb(compiled) + _mb(compiled(batch))


def _convolve(model, batch, is_dense):
    graph = jax.jit(lambda batch: _graph(model, batch, is_dense))(batch)
    node_BTND = _nodes(model, batch)
    compiled = _compile(jax.value_and_grad(_convolutions(model)), node_BTND, graph)
    return _call(compiled, node_BTND, graph), _temporary_mb(compiled) + _mb(graph)


def _build_and_convolve(model, batch, is_dense):
    convolutions, node_BTND = _convolutions(model), _nodes(model, batch)

    # Without a graph as an output XLA may fuse its construction into the first product.
    def loss(node_BTND, batch):
        return convolutions(node_BTND, _graph(model, batch, is_dense))

    compiled = _compile(jax.value_and_grad(loss), node_BTND, batch)
    return _call(compiled, node_BTND, batch), _temporary_mb(compiled)


def _nodes(model, batch):
    shape = (*batch['object_mask'].shape, model.width)
    return jax.random.normal(jax.random.key(0), shape, jnp.dtype(model.dtype))


def _convolutions(model):
    """Build a loss of node states and graph: all layers, without their products with W."""

    def loss(node_BTND, graph):
        for _ in range(model.graph_layers):
            # The products with W are the same for both graphs and would hide the difference.
            node_BTND = jax.nn.relu(node_BTND + graph.propagate(node_BTND))
        return jnp.sum(node_BTND.astype(jnp.float32))

    return loss


def _encoder(model, batch, is_dense):
    """Compile the whole encoder with the gradient of its parameters."""
    encoder = ObjectEncoder(
        model.width, model.graph_layers, model.graph_norm, jnp.dtype(model.dtype)
    )

    def apply(method, params, batch):
        graph = _graph(model, batch, is_dense)
        node_BTNC = batch['object'].astype(model.dtype)
        return method(params, node_BTNC, graph)

    def loss(params, batch):
        node_BTND: Any = apply(encoder.apply, params, batch)
        frame_BTD = mean_of_objects(node_BTND, batch['object_mask'])
        return jnp.sum(frame_BTD.astype(jnp.float32))

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


_PARTS = {
    'build': _build,
    'convolve': _convolve,
    'graph': _build_and_convolve,
    'encoder': _encoder,
}
