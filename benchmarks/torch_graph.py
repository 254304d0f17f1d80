"""The object graph in PyTorch: dense, as peers build it, and banded."""

import torch
from torch.nn import functional

_MASKED = -1e9


def dense_graph(object_BTNC, box_BTN4, mask_BTN):
    """Return the normalised adjacency S G S over all nodes, (B, T * N, T * N)."""
    same_BTNN, next_BTNN = _blocks(object_BTNC, box_BTN4, mask_BTN)
    B, T, N = mask_BTN.shape
    G = torch.zeros(B, T, N, T, N, device=box_BTN4.device)
    t = torch.arange(T, device=box_BTN4.device)
    G[:, t, :, t] = same_BTNN.transpose(0, 1)
    G[:, t[:-1], :, t[1:]] = next_BTNN.transpose(0, 1)
    G = G.reshape(B, T * N, T * N)
    scale = _scale(G.sum(-1))
    return scale[:, :, None] * G * scale[:, None, :]


def banded_graph(object_BTNC, box_BTN4, mask_BTN):
    """Return the blocks (t, t), (B, T, N, N), and (t, t + 1), (B, T - 1, N, N), of S G S."""
    same_BTNN, next_BTNN = _blocks(object_BTNC, box_BTN4, mask_BTN)
    degree_BTN = same_BTNN.sum(-1)
    degree_BTN[:, :-1] += next_BTNN.sum(-1)
    scale_BTN = _scale(degree_BTN)
    same_BTNN = scale_BTN[..., None] * same_BTNN * scale_BTN[..., None, :]
    next_BTNN = scale_BTN[:, :-1, :, None] * next_BTNN * scale_BTN[:, 1:, None, :]
    return same_BTNN, next_BTNN


def propagate_dense(graph, node_BTND):
    """Return S G S H."""
    nodes = node_BTND.flatten(1, 2)
    return torch.bmm(graph.to(nodes.dtype), nodes).view_as(node_BTND)


def propagate_banded(graph, node_BTND):
    """Return S G S H."""
    same_BTNN, next_BTNN = (block.to(node_BTND.dtype) for block in graph)
    message_BTND = same_BTNN @ node_BTND
    return message_BTND + functional.pad(next_BTNN @ node_BTND[:, 1:], (0, 0, 0, 0, 0, 1))


def _blocks(object_BTNC, box_BTN4, mask_BTN):
    """Return softmax of IoU within frames and of cosine from each frame to the next."""
    unit_BTNC = functional.normalize(object_BTNC.float(), dim=-1)
    cosine_BTNN = unit_BTNC[:, :-1] @ unit_BTNC[:, 1:].mT
    return (
        _masked_softmax(_iou(box_BTN4), mask_BTN, mask_BTN),
        _masked_softmax(cosine_BTNN, mask_BTN[:, :-1], mask_BTN[:, 1:]),
    )


def _iou(box_BTN4):
    low = torch.maximum(box_BTN4[..., :, None, :2], box_BTN4[..., None, :, :2])
    high = torch.minimum(box_BTN4[..., :, None, 2:], box_BTN4[..., None, :, 2:])
    both = (high - low).clamp(min=0).prod(-1)
    area = (box_BTN4[..., 2:] - box_BTN4[..., :2]).prod(-1)
    either = area[..., :, None] + area[..., None, :] - both
    return both / either.clamp(min=1e-9)


def _masked_softmax(logits, row_mask, column_mask):
    mask = row_mask[..., :, None] & column_mask[..., None, :]
    return logits.masked_fill(~mask, _MASKED).softmax(-1) * mask


def _scale(degree):
    return torch.where(degree > 0, degree.clamp(min=1e-9).rsqrt(), 0)
