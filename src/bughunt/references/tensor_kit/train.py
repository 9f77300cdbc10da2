"""A box of tensor operations, each without a loop over rows: what models and pipelines are put together from.

Every function takes tensors and gives new ones; what it was given stays as it was. All work for empty
and single-row batches, on any device and for tensors that are not contiguous.

Shapes: B batch, N and M rows, D features, K classes, G groups, T time, H heads, C channels.
"""

import torch
from torch import Tensor


def pairwise_distances(x: Tensor, y: Tensor) -> Tensor:  # [.., N, D], [.., M, D] -> [.., N, M]
    """Euclidean, through one matrix product; round-off may take a square just below zero."""
    squares = (x**2).sum(dim=-1)[..., :, None] + (y**2).sum(dim=-1)[..., None, :]
    return (squares - 2 * x @ y.transpose(-1, -2)).clamp(min=0).sqrt()


def take_rows(table: Tensor, index: Tensor) -> Tensor:  # [B, N, D], [B, M] -> [B, M, D]
    """From every batch entry the rows that its own index names."""
    wide = index[:, :, None].expand(-1, -1, table.size(2))
    return table.gather(1, wide)


def put_rows(table: Tensor, index: Tensor, rows: Tensor) -> Tensor:  # [N, D], [M], [M, D] -> [N, D]
    """The table with rows added where the index says, as often as it says."""
    return table.index_add(0, index, rows)


def segment_sum(values: Tensor, segments: Tensor, groups: int) -> Tensor:  # [N, D], [N] -> [G, D]
    """The sum of the rows of each group; a group without any is zero."""
    out = values.new_zeros(groups, values.size(1))
    return out.index_add(0, segments, values)


def segment_mean(values: Tensor, segments: Tensor, groups: int) -> Tensor:  # [N, D], [N] -> [G, D]
    counts = torch.bincount(segments, minlength=groups).clamp(min=1)
    return segment_sum(values, segments, groups) / counts[:, None]


def segment_max(values: Tensor, segments: Tensor, groups: int) -> Tensor:  # [N], [N] -> [G]
    """The largest value of each group; a group without any has minus infinity."""
    out = values.new_full((groups,), -torch.inf)
    return out.scatter_reduce(0, segments, values, "amax")


def one_hot(labels: Tensor, classes: int, smoothing: float = 0.0) -> Tensor:  # [..] -> [.., K]
    """Ones at the labels; smoothing takes a share away and spreads it over all classes."""
    out = torch.zeros(*labels.shape, classes, device=labels.device)
    out.scatter_(-1, labels[..., None], 1.0)
    return out * (1 - smoothing) + smoothing / classes


def sliding_windows(x: Tensor, size: int, step: int) -> Tensor:  # [B, T, D] -> [B, P, size, D]
    """Every window that lies within the sequence, `step` apart."""
    count = max((x.size(1) - size) // step + 1, 0)
    starts = torch.arange(count, device=x.device) * step
    index = starts[:, None] + torch.arange(size, device=x.device)
    return x[:, index]


def to_channels_last(images: Tensor) -> Tensor:  # [B, C, H, W] -> [B, H, W, C]
    return images.permute(0, 2, 3, 1).contiguous()


def to_channels_first(images: Tensor) -> Tensor:  # [B, H, W, C] -> [B, C, H, W]
    return images.permute(0, 3, 1, 2).contiguous()


def image_to_patches(images: Tensor, size: int) -> Tensor:  # [B, C, H, W] -> [B, N, C * size * size]
    """Squares from left to right and from top to bottom; in each, channels before rows before columns."""
    B, C, H, W = images.shape
    grid = images.reshape(B, C, H // size, size, W // size, size)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(B, (H // size) * (W // size), C * size * size)


def patches_to_image(patches: Tensor, size: int, width: int) -> Tensor:  # -> [B, C, H, W]
    """The way back from patches to an image of this width."""
    B, N, F = patches.shape
    across = width // size
    grid = patches.reshape(B, N // across, across, F // size**2, size, size)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(B, F // size**2, -1, width)


def split_heads(x: Tensor, heads: int) -> Tensor:  # [B, T, C] -> [B, H, T, C / H]
    B, T, C = x.shape
    return x.reshape(B, T, heads, C // heads).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:  # [B, H, T, K] -> [B, T, H * K]
    B, H, T, K = x.shape
    return x.transpose(1, 2).reshape(B, T, H * K)


def repeat_groups(x: Tensor, times: int) -> Tensor:  # [B, H, T, K] -> [B, H * times, T, K]
    """Every head followed by its own copies."""
    return x.repeat_interleave(times, dim=1)


def length_mask(lengths: Tensor, longest: int) -> Tensor:  # [B] -> [B, T]
    """True where a sequence has a token."""
    return torch.arange(longest, device=lengths.device)[None, :] < lengths[:, None]


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:  # [.., T], [.., T] -> [.., T]
    """Over the last axis, with weight only where the mask is true; none at all where it is nowhere true."""
    weights = scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)
    return weights.masked_fill(~mask, 0.0)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:  # [B, T, D], [B, T] -> [B, D]
    """The mean over the tokens that count; zero for a sequence without any."""
    kept = x.masked_fill(~mask[..., None], 0.0)
    return kept.sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)


def last_token(x: Tensor, lengths: Tensor) -> Tensor:  # [B, T, D], [B] -> [B, D]
    """The last state of every sequence, each at its own length."""
    rows = torch.arange(len(x), device=x.device)
    return x[rows, lengths - 1]


def outer_products(x: Tensor, y: Tensor) -> Tensor:  # [B, N], [B, M] -> [B, N, M]
    return torch.einsum("bn,bm->bnm", x, y)


def bilinear(x: Tensor, weight: Tensor, y: Tensor) -> Tensor:  # [B, N], [K, N, M], [B, M] -> [B, K]
    return torch.einsum("bn,knm,bm->bk", x, weight, y)


def standardise(x: Tensor, eps: float = 1e-6) -> Tensor:  # [N, D] -> [N, D]
    """Every column with mean zero and deviation one, the deviation taken over all N rows."""
    centred = x - x.mean(dim=0, keepdim=True)
    return centred / (centred.pow(2).mean(dim=0, keepdim=True) + eps).sqrt()


def normalise_rows(x: Tensor, eps: float = 1e-12) -> Tensor:  # [.., D] -> [.., D]
    """Every row at length one; a row of zeros stays one."""
    return x / x.norm(dim=-1, keepdim=True).clamp(min=eps)


def top_k_mask(scores: Tensor, k: int) -> Tensor:  # [.., K] -> [.., K]
    """True at exactly `k` of the largest entries of the last axis."""
    best = scores.topk(k, dim=-1).indices
    return torch.zeros_like(scores, dtype=torch.bool).scatter(-1, best, True)


def log_sum_exp(x: Tensor, dim: int) -> Tensor:
    """The logarithm of a sum of exponentials, also where these would overflow."""
    top = x.amax(dim=dim, keepdim=True)
    finite = torch.where(top.isfinite(), top, 0.0)
    return ((x - finite).exp().sum(dim=dim, keepdim=True).log() + finite).squeeze(dim)


def running_mean(x: Tensor) -> Tensor:  # [B, T] -> [B, T]
    """At every time the mean of what has come so far."""
    counts = torch.arange(1, x.size(1) + 1, device=x.device)
    return x.cumsum(dim=1) / counts
