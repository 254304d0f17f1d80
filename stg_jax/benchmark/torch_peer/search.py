"""Beam search in PyTorch, the search of stg_jax/decode/beam.py, with and without a cache."""

import torch
from torch.nn import functional

from stg_jax.data.vocab import BOS, EOS, PAD
from stg_jax.decode.beam import BANNED


class LayerCache:
    """Keys and values of one layer, for the words so far of R hypotheses."""

    def __init__(self):
        self.parts = None

    def append(self, new):
        """Add one word; returns the keys and values of all words."""
        if self.parts is not None:
            new = [torch.cat(both, dim=2) for both in zip(self.parts, new, strict=True)]
        self.parts = new
        return new

    def reorder(self, row_R):
        """Keep the given hypotheses."""
        self.parts = [part.index_select(0, row_R) for part in self.parts]


@torch.inference_mode()
def decode(network, batch, *, beam_size, max_words, length_penalty, use_cache):
    """Find the best caption of every clip (B, L); also returns the number of steps."""
    decoder = network.decoders['scene']
    x_BSD, mask = network.sequence(batch, 'scene')
    memories = decoder.read_memory(decoder.encode(x_BSD, mask))
    caches = [LayerCache() for _ in decoder.decoder] if use_cache else None

    def logits_of(token_RL):
        position = token_RL.shape[1] - 1
        if use_cache:
            hidden = decoder(token_RL[:, -1:], memories, mask, start=position, caches=caches)
        else:
            hidden = decoder(token_RL, memories, mask)
        return decoder.logits(hidden[:, -1])

    def reorder(row_R):
        for cache in caches or ():
            cache.reorder(row_R)

    return _search(logits_of, reorder, len(x_BSD), beam_size, max_words, length_penalty, x_BSD)


def _search(logits_of, reorder, num_clips, K, max_words, alpha, like):
    """Extend K prefixes of each clip, on the device of `like`."""
    device = like.device
    first_row_B1 = torch.arange(num_clips, device=device)[:, None] * K
    token_RL = torch.full((num_clips * K, 1), BOS, device=device)
    live_BK = torch.full((num_clips, K), -torch.inf, device=device)
    # All K prefixes are equal at first, so only one may be extended.
    live_BK[:, 0] = 0
    found_BKL = torch.full((num_clips, K, max_words + 1), PAD, device=device)
    score_BK = torch.full_like(live_BK, -torch.inf)
    for step in range(max_words + 1):
        logp_BKV = _allowed(logits_of(token_RL), step == max_words).view(num_clips, K, -1)
        size = logp_BKV.shape[-1]
        total_BK, index_BK = (live_BK[..., None] + logp_BKV).flatten(1).topk(K)
        row_R = (first_row_B1 + index_BK // size).flatten()
        token_RL = torch.cat([token_RL[row_R], (index_BK % size).view(-1, 1)], dim=1)
        reorder(row_R)
        ends_BK = index_BK % size == EOS
        ended_BK = torch.where(ends_BK, total_BK / _penalty(step + 1, alpha), -torch.inf)
        live_BK = torch.where(ends_BK, -torch.inf, total_BK)
        found_BKL, score_BK = _keep_best(found_BKL, score_BK, token_RL[:, 1:], ended_BK)
        # No live hypothesis can reach a better score than this, since log-probabilities only add
        # up.
        attainable_B = live_BK.amax(1) / _penalty(max_words + 1, alpha)
        if not (attainable_B > score_BK.amin(1)).any():
            break
    return found_BKL[:, 0], step + 1


def _allowed(logits_RV, only_end):
    logp_RV = logits_RV.float().log_softmax(-1)
    end_R = logp_RV[:, EOS].clone()
    if only_end:
        logp_RV.fill_(-torch.inf)
        logp_RV[:, EOS] = end_R
    logp_RV[:, list(BANNED)] = -torch.inf
    return logp_RV


def _keep_best(found_BKL, score_BK, token_RL, ended_BK):
    num_clips, K, length = found_BKL.shape
    token_BKL = token_RL.view(num_clips, K, -1)
    token_BKL = functional.pad(token_BKL, (0, length - token_BKL.shape[-1]), value=PAD)
    score_BX = torch.cat([score_BK, ended_BK], dim=1)
    token_BXL = torch.cat([found_BKL, token_BKL], dim=1)
    score_BK, index_BK = score_BX.topk(K)
    return token_BXL.gather(1, index_BK[..., None].expand(-1, -1, length)), score_BK


def _penalty(length, alpha):
    return ((5 + length) / 6) ** alpha
