"""Random objects, and the dense float64 graph of docs/model.md, built node by node."""

import itertools

import numpy as np

T, N, C, D = 4, 3, 5, 6
KINDS = [
    *itertools.product(('full', 'temporal'), ('literal', 'forward', 'both')),
    ('spatial', 'literal'),
]
KINDS += [('dense', 'literal')]


def fake_objects(mask_TN, seed=0):
    """Return features and boxes of objects (T, N, ...), zero where the mask is False."""
    rng = np.random.default_rng(seed)
    corner_TN22 = np.sort(rng.uniform(size=(*mask_TN.shape, 2, 2)), axis=-2)
    box_TN4 = corner_TN22.reshape(*mask_TN.shape, 4).astype(np.float32)
    object_TNC = rng.normal(size=(*mask_TN.shape, C)).astype(np.float32)
    return object_TNC * mask_TN[..., None], box_TN4 * mask_TN[..., None]


def some_mask(frames=T, objects=N):
    """Return a mask with absent objects and, from 3 frames on, an empty frame in the middle."""
    mask_TN = np.arange(frames * objects).reshape(frames, objects) % 4 != 1
    mask_TN[1 : frames - 1 : 3] = False
    return mask_TN


def shuffle_objects(inputs):
    """Return an order of the objects of each frame (T, N), and arrays (T, N, ...) in it."""
    order_TN = np.random.default_rng(2).permuted(np.tile(np.arange(N), (T, 1)), axis=1)
    assert (order_TN != np.arange(N)).any(1).sum() > 1
    return order_TN, [
        np.take_along_axis(x, order_TN.reshape(T, N, *[1] * (x.ndim - 2)), axis=1) for x in inputs
    ]


def softmax(x):
    return np.exp(x) / np.exp(x).sum()


def iou(a, b):
    width, height = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    both = max(width, 0) * max(height, 0)
    either = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - both
    return both / either if either else 0


def cosine(a, b):
    return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))


def oracle_adjacency(object_TNC, box_TN4, mask_TN, kind, direction):
    """Return G over all nodes, (O, O)."""
    object_TNC, box_TN4 = object_TNC.astype(np.float64), box_TN4.astype(np.float64)
    frames, objects = mask_TN.shape
    G = np.zeros((frames, objects, frames, objects))
    for t, i in zip(*np.nonzero(mask_TN), strict=True):
        if kind == 'dense':
            G[t, i] = mask_TN
            continue
        here = np.flatnonzero(mask_TN[t])
        if kind == 'temporal':
            here = np.array([i])
        overlap = [1 if j == i else iou(box_TN4[t, i], box_TN4[t, j]) for j in here]
        G[t, i, t, here] = softmax(np.array(overlap))
        there = np.flatnonzero(mask_TN[t + 1]) if t + 1 < frames and kind != 'spatial' else []
        if len(there) == 0:
            continue
        link = softmax(np.array([cosine(object_TNC[t, i], object_TNC[t + 1, j]) for j in there]))
        if direction in ('literal', 'both'):
            G[t, i, t + 1, there] = link
        if direction in ('forward', 'both'):
            G[t + 1, there, t, i] = link
    return G.reshape(frames * objects, frames * objects)


def oracle_graph(*args):
    """Return S G S, (O, O)."""
    G = oracle_adjacency(*args)
    scale = np.array([degree**-0.5 if degree > 0 else 0 for degree in G.sum(1)])
    return np.diag(scale) @ G @ np.diag(scale)
