"""The network of docs/model.md in idiomatic PyTorch."""

import dataclasses

import torch
from torch import nn
from torch.nn import functional

_MASKED = -1e9


def dense_graph(object_BTNC, box_BTN4, mask_BTN):
    """Build the normalised adjacency S G S over all nodes, (B, T * N, T * N)."""
    same_BTNN, next_BTNN = _blocks(object_BTNC, box_BTN4, mask_BTN)
    B, T, N = mask_BTN.shape
    # Filled block by block: the plain form of the paper's adjacency matrix.
    G = torch.zeros(B, T, N, T, N, device=box_BTN4.device)
    t = torch.arange(T, device=box_BTN4.device)
    G[:, t, :, t] = same_BTNN.transpose(0, 1)
    G[:, t[:-1], :, t[1:]] = next_BTNN.transpose(0, 1)
    G = G.reshape(B, T * N, T * N)
    scale = _scale(G.sum(-1))
    return scale[:, :, None] * G * scale[:, None, :]


def banded_graph(object_BTNC, box_BTN4, mask_BTN):
    """Build the blocks (t, t), (B, T, N, N), and (t, t + 1), (B, T - 1, N, N), of S G S."""
    same_BTNN, next_BTNN = _blocks(object_BTNC, box_BTN4, mask_BTN)
    degree_BTN = same_BTNN.sum(-1)
    degree_BTN[:, :-1] += next_BTNN.sum(-1)
    scale_BTN = _scale(degree_BTN)
    same_BTNN = scale_BTN[..., None] * same_BTNN * scale_BTN[..., None, :]
    next_BTNN = scale_BTN[:, :-1, :, None] * next_BTNN * scale_BTN[:, 1:, None, :]
    return same_BTNN, next_BTNN


def propagate_dense(graph, node_BTND):
    """Compute S G S H."""
    nodes = node_BTND.flatten(1, 2)
    return torch.bmm(graph.to(nodes.dtype), nodes).view_as(node_BTND)


def propagate_banded(graph, node_BTND):
    """Compute S G S H."""
    same_BTNN, next_BTNN = (block.to(node_BTND.dtype) for block in graph)
    message_BTND = same_BTNN @ node_BTND
    return message_BTND + functional.pad(next_BTNN @ node_BTND[:, 1:], (0, 0, 0, 0, 0, 1))


def _blocks(object_BTNC, box_BTN4, mask_BTN):
    """Softmax of IoU within frames, and of cosine from each frame to the next."""
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


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Sizes of the network; names as in configs/common.py."""

    width: int
    heads: int
    feedforward: int
    encoder_layers: int
    decoder_layers: int
    graph_layers: int
    dropout: float
    max_words: int
    vocab_size: int
    appearance_dim: int
    motion_dim: int
    object_dim: int


class Whole:
    """No packing: every position of every caption is computed."""

    def pack(self, x_RLD):
        """Return the input."""
        return x_RLD

    def unpack(self, x_RLD):
        """Return the input."""
        return x_RLD


@dataclasses.dataclass(frozen=True)
class Packing:
    """Packing: only the M real positions, `index_M`, of R captions of length L are computed."""

    index_M: torch.Tensor
    shape_RL: tuple[int, int]

    def pack(self, x_RLD):
        """Select the real positions, (M, D)."""
        return x_RLD.flatten(0, 1)[self.index_M]

    def unpack(self, x_MD):
        """Scatter them to (R, L, D), zero elsewhere."""
        rows, length = self.shape_RL
        x_PD = x_MD.new_zeros(rows * length, x_MD.shape[-1])
        return x_PD.index_copy(0, self.index_M, x_MD).view(rows, length, -1)


WHOLE = Whole()


class Attention(nn.Module):
    """Multi-head attention on `scaled_dot_product_attention`."""

    def __init__(self, sizes):
        super().__init__()
        self.heads = sizes.heads
        self.query = nn.Linear(sizes.width, sizes.width)
        self.key_value = nn.Linear(sizes.width, 2 * sizes.width)
        self.out = nn.Linear(sizes.width, sizes.width)

    def project(self, x, packing=WHOLE):
        """Project to keys and values (B, H, S, E)."""
        # Attention needs rectangular tensors; only the linear layers work on packed tokens.
        key_value = packing.unpack(self.key_value(x))
        return tuple(self._split(part) for part in key_value.chunk(2, dim=-1))

    def forward(self, x, key_value, mask=None, causal=False, packing=WHOLE):
        """Attend from x (R, Q, D) to keys and values of B = R or fewer clips."""
        query_RQD = packing.unpack(self.query(x))
        query_BQD = query_RQD.reshape(key_value[0].shape[0], -1, query_RQD.shape[-1])
        y_BHQE = functional.scaled_dot_product_attention(
            self._split(query_BQD), *key_value, attn_mask=mask, is_causal=causal
        )
        y_RQD = y_BHQE.transpose(1, 2).reshape(query_RQD.shape)
        return self.out(packing.pack(y_RQD))

    def _split(self, x_BSD):
        return x_BSD.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Sequential):
    """Two linear layers."""

    def __init__(self, sizes):
        super().__init__(
            nn.Linear(sizes.width, sizes.feedforward),
            nn.ReLU(),
            nn.Dropout(sizes.dropout),
            nn.Linear(sizes.feedforward, sizes.width),
        )


class EncoderLayer(nn.Module):
    """Post-norm encoder layer."""

    def __init__(self, sizes):
        super().__init__()
        self.attention, self.feed = Attention(sizes), FeedForward(sizes)
        self.norms = _norms(2, sizes)
        self.drop = nn.Dropout(sizes.dropout)

    def forward(self, x_BSD, mask):
        """Map (B, S, D) to (B, S, D)."""
        attended_BSD = self.attention(x_BSD, self.attention.project(x_BSD), mask)
        x_BSD = self.norms[0](x_BSD + self.drop(attended_BSD))
        return self.norms[1](x_BSD + self.drop(self.feed(x_BSD)))


class DecoderLayer(nn.Module):
    """Post-norm decoder layer; the K captions of a clip read its memory together."""

    def __init__(self, sizes):
        super().__init__()
        self.self_attention, self.cross_attention = Attention(sizes), Attention(sizes)
        self.feed = FeedForward(sizes)
        self.norms = _norms(3, sizes)
        self.drop = nn.Dropout(sizes.dropout)

    def forward(self, x, memory, mask, cache=None, packing=WHOLE):
        """Map (R, L, D) of R = B * K rows; with a cache L = 1, and no causal mask is needed."""
        # Keys and values of the new word only; those of earlier words come from the cache.
        own = self.self_attention.project(x, packing)
        # Causal masking is implied when only the last word is computed.
        if cache is not None:
            own = cache.append(own)
        attended = self.self_attention(x, own, causal=cache is None, packing=packing)
        x = self.norms[0](x + self.drop(attended))
        x = self.norms[1](x + self.drop(self.cross_attention(x, memory, mask, packing=packing)))
        return self.norms[2](x + self.drop(self.feed(x)))


class LanguageDecoder(nn.Module):
    """Encoder-decoder Transformer of a branch, with tied embeddings."""

    def __init__(self, sizes):
        super().__init__()
        self.embed = nn.Embedding(sizes.vocab_size, sizes.width)
        self.encoder = nn.ModuleList(EncoderLayer(sizes) for _ in range(sizes.encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(sizes) for _ in range(sizes.decoder_layers))
        self.drop = nn.Dropout(sizes.dropout)
        length = max(sizes.max_words + 1, 1024)
        self.register_buffer('position', _sinusoids(length, sizes.width), persistent=False)

    def encode(self, x_BSD, mask):
        """Encode a branch's sequence."""
        x_BSD = self.drop(x_BSD + self.position[: x_BSD.shape[1]])
        for layer in self.encoder:
            x_BSD = layer(x_BSD, mask)
        return x_BSD

    def read_memory(self, memory_BSD):
        """Compute keys and values of the memory for every layer."""
        return [layer.cross_attention.project(memory_BSD) for layer in self.decoder]

    def forward(self, token_RL, memories, mask, start=0, caches=None, packing=WHOLE):
        """Compute states (R, L, D) of the tokens from position `start` on, or their packed form."""
        length, width = token_RL.shape[1], self.embed.embedding_dim
        position_LD = self.position[start : start + length]
        x = self.drop(packing.pack(self.embed(token_RL) * width**0.5 + position_LD))
        caches = caches or [None] * len(self.decoder)
        for layer, memory, cache in zip(self.decoder, memories, caches, strict=True):
            x = layer(x, memory, mask, cache, packing)
        return x

    def logits(self, hidden):
        """Compute logits (..., V)."""
        return functional.linear(hidden, self.embed.weight)


class SceneEncoder(nn.Module):
    """Fuse appearance and motion."""

    def __init__(self, sizes):
        super().__init__()
        self.appearance = nn.Linear(sizes.appearance_dim, sizes.width, bias=False)
        self.motion = nn.Linear(sizes.motion_dim, sizes.width, bias=False)
        self.fuse = nn.Linear(2 * sizes.width, sizes.width, bias=False)

    def forward(self, appearance_BTC, motion_BTC):
        """Encode a clip to (B, T, D)."""
        both = torch.cat([self.appearance(appearance_BTC), self.motion(motion_BTC)], dim=-1)
        return functional.relu(self.fuse(both))


class ObjectEncoder(nn.Module):
    """Graph convolutions, and the mean over the objects of each frame."""

    def __init__(self, sizes, banded):
        super().__init__()
        self.build = banded_graph if banded else dense_graph
        self.propagate = propagate_banded if banded else propagate_dense
        self.embed = nn.Linear(sizes.object_dim, sizes.width, bias=False)
        self.graph = nn.ModuleList(
            nn.Linear(sizes.width, sizes.width, bias=False) for _ in range(sizes.graph_layers)
        )

    def forward(self, object_BTNC, box_BTN4, mask_BTN):
        """Encode a clip to (B, T, D)."""
        graph = self.build(object_BTNC, box_BTN4, mask_BTN)
        node_BTND = self.embed(object_BTNC)
        for linear in self.graph:
            node_BTND = functional.relu(node_BTND + linear(self.propagate(graph, node_BTND)))
        count_BT1 = mask_BTN.sum(-1, keepdim=True).clamp(min=1)
        return (node_BTND * mask_BTN[..., None]).sum(2) / count_BT1


class CaptioningNetwork(nn.Module):
    """Both branches. Every clip must have an object in at least one frame."""

    def __init__(self, sizes, *, banded):
        super().__init__()
        self.scene_encoder = SceneEncoder(sizes)
        self.object_encoder = ObjectEncoder(sizes, banded)
        self.decoders = nn.ModuleDict(
            {name: LanguageDecoder(sizes) for name in ('scene', 'object')}
        )

    def forward(self, batch, token_RL, packing=WHOLE):
        """Compute each branch's states (R, L, D) of R = B * K captions, or their packed form."""
        states = {}
        for name, decoder in self.decoders.items():
            x_BSD, mask = self.sequence(batch, name)
            memories = decoder.read_memory(decoder.encode(x_BSD, mask))
            states[name] = decoder(token_RL, memories, mask, packing=packing)
        return states

    def sequence(self, batch, name):
        """Encode a branch's sequence (B, T, D), with the mask of its attention if it needs one."""
        if name == 'scene':
            return self.scene_encoder(batch['appearance'], batch['motion']), None
        mask_BTN = batch['object_mask']
        x_BTD = self.object_encoder(batch['object'], batch['box'], mask_BTN)
        return x_BTD, mask_BTN.any(-1)[:, None, None, :]


def _norms(number, sizes):
    # PyTorch's own epsilon is 1e-5, Flax's 1e-6.
    return nn.ModuleList(nn.LayerNorm(sizes.width, eps=1e-6) for _ in range(number))


def _sinusoids(length, width):
    rate = torch.exp(-torch.log(torch.tensor(1e4)) * torch.arange(0, width, 2) / width)
    angle = torch.arange(length)[:, None] * rate
    return torch.cat([angle.sin(), angle.cos()], dim=-1)
