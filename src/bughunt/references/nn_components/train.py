"""A shelf of parts that networks are built from: layers, activations, normalisations, losses, first weights.

Shapes: B batch, I inputs, O outputs, C channels, G groups, K classes, D features; `*` is any number of axes.
"""

import math

import torch
from torch import Tensor, nn


def fans(weight: Tensor) -> tuple[int, int]:
    """How many inputs and outputs meet in each unit; a kernel `[O, I, R, S]` counts all of its places."""
    places = math.prod(weight.shape[2:])
    return weight.size(1) * places, weight.size(0) * places


@torch.no_grad()
def xavier_uniform_(weight: Tensor, gain: float = 1.0) -> Tensor:
    """Between the needs of the way there and of the way back."""
    fan_in, fan_out = fans(weight)
    bound = gain * math.sqrt(6 / (fan_in + fan_out))
    return weight.uniform_(-bound, bound)


@torch.no_grad()
def kaiming_normal_(weight: Tensor, slope: float = 0.0) -> Tensor:
    """Keeps the spread of what goes in, through a ReLU of this slope on its negative side."""
    fan_in, _ = fans(weight)
    return weight.normal_(0.0, math.sqrt(2 / ((1 + slope**2) * fan_in)))


@torch.no_grad()
def orthogonal_(weight: Tensor, gain: float = 1.0) -> Tensor:
    """Rows (or columns, where these are fewer) at right angles, drawn evenly from all such matrices."""
    rows, columns = weight.size(0), weight[0].numel()
    flat = torch.randn(max(rows, columns), min(rows, columns), device=weight.device)
    q, r = torch.linalg.qr(flat)
    q = q * r.diagonal().sign()
    if rows < columns:
        q = q.T
    return weight.copy_(gain * q.reshape(weight.shape))


class Linear(nn.Module):
    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(kaiming_normal_(torch.empty(outputs, inputs)))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:  # [*, I] -> [*, O]
        out = x @ self.weight.T
        return out if self.bias is None else out + self.bias


class Embedding(nn.Module):
    """One row a token; the row of padding is zero and stays so."""

    def __init__(self, tokens: int, features: int, padding: int | None = None) -> None:
        super().__init__()
        self.padding = padding
        self.weight = nn.Parameter(torch.randn(tokens, features) / math.sqrt(features))
        if padding is not None:
            with torch.no_grad():
                self.weight[padding] = 0

    def forward(self, tokens: Tensor) -> Tensor:  # [*] -> [*, D]
        rows = self.weight[tokens]
        if self.padding is None:
            return rows
        return rows.masked_fill((tokens == self.padding)[..., None], 0.0)


class Dropout(nn.Module):
    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        kept = torch.rand_like(x) >= self.rate
        return x * kept / (1 - self.rate)


class BatchNorm(nn.Module):
    """Over the batch, by its own statistics in training and by their running mean afterwards."""

    def __init__(self, features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("var", torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:  # [B, D] -> [B, D]
        mean, var = self.mean, self.var
        if self.training:
            mean, var = x.mean(dim=0), x.var(dim=0, unbiased=False)
            with torch.no_grad():
                self.mean.lerp_(mean, self.momentum)
                self.var.lerp_(x.var(dim=0, unbiased=True), self.momentum)
        return (x - mean) / torch.sqrt(var + self.eps) * self.weight + self.bias


class LayerNorm(nn.Module):
    """Over the features of each position alone."""

    def __init__(self, features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:  # [*, D] -> [*, D]
        centred = x - x.mean(dim=-1, keepdim=True)
        var = centred.pow(2).mean(dim=-1, keepdim=True)
        return centred / torch.sqrt(var + self.eps) * self.weight + self.bias


class RMSNorm(nn.Module):
    """By the root of the mean square, taken in single precision whatever comes in."""

    def __init__(self, features: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:  # [*, D] -> [*, D]
        wide = x.double() if x.dtype == torch.float64 else x.float()
        scaled = wide * torch.rsqrt(wide.pow(2).mean(dim=-1, keepdim=True) + self.eps)
        return (scaled * self.weight).to(x.dtype)


class GroupNorm(nn.Module):
    """Over neighbouring channels and all places of one image."""

    def __init__(self, groups: int, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.groups, self.eps = groups, eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:  # [B, C, *] -> [B, C, *]
        grouped = x.reshape(x.size(0), self.groups, -1)
        centred = grouped - grouped.mean(dim=-1, keepdim=True)
        var = centred.pow(2).mean(dim=-1, keepdim=True)
        out = (centred / torch.sqrt(var + self.eps)).reshape(x.shape)
        shape = (1, -1) + (1,) * (x.dim() - 2)
        return out * self.weight.view(shape) + self.bias.view(shape)


def gelu(x: Tensor) -> Tensor:
    """Each entry times the chance that a normal draw lies below it."""
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def gelu_tanh(x: Tensor) -> Tensor:
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return 0.5 * x * (1 + torch.tanh(inner))


def softplus(x: Tensor) -> Tensor:
    """A smooth ReLU, written so that no exponential overflows."""
    return x.clamp(min=0) + torch.log1p(torch.exp(-x.abs()))


class SiLU(torch.autograd.Function):
    """x times its sigmoid; only x is kept for the way back."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return g * (s + x * s * (1 - s))


def silu(x: Tensor) -> Tensor:
    return SiLU.apply(x)


def reduce(losses: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" else losses.mean()


def cross_entropy(
    logits: Tensor, targets: Tensor, ignore: int = -100, smoothing: float = 0.0, reduction: str = "mean"
) -> Tensor:  # [B, K], [B]
    """In nats; the mean is over the rows that are not ignored."""
    logs = logits - logits.logsumexp(dim=-1, keepdim=True)
    counts = targets != ignore
    safe = targets.masked_fill(~counts, 0)
    right = -logs.gather(-1, safe[:, None]).squeeze(-1)
    spread = -logs.mean(dim=-1)
    losses = (1 - smoothing) * right + smoothing * spread
    losses = losses.masked_fill(~counts, 0.0)
    if reduction == "mean":
        return losses.sum() / counts.sum()
    return reduce(losses, reduction)


def bce_with_logits(
    logits: Tensor, targets: Tensor, positive_weight: float = 1.0, reduction: str = "mean"
) -> Tensor:
    """Of yes-or-no scores; errors on a yes weigh `positive_weight` times as much."""
    losses = positive_weight * targets * softplus(-logits) + (1 - targets) * softplus(logits)
    return reduce(losses, reduction)


def focal(
    logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0, reduction: str = "mean"
) -> Tensor:
    """Cross-entropy that turns away from what is already right; `alpha` is the weight of a yes."""
    losses = bce_with_logits(logits, targets, reduction="none")
    missed = torch.sigmoid(logits) * (1 - targets) + torch.sigmoid(-logits) * targets
    weight = alpha * targets + (1 - alpha) * (1 - targets)
    return reduce(weight * missed**gamma * losses, reduction)


def huber(found: Tensor, wanted: Tensor, delta: float = 1.0, reduction: str = "mean") -> Tensor:
    """A parabola near zero, and straight lines that meet it without a kink."""
    gap = (found - wanted).abs()
    losses = torch.where(gap <= delta, 0.5 * gap**2, delta * (gap - 0.5 * delta))
    return reduce(losses, reduction)


def triplet(
    anchor: Tensor, same: Tensor, other: Tensor, margin: float = 1.0, reduction: str = "mean"
) -> Tensor:
    """The anchor has to be nearer to its own kind than to another, by the margin."""
    near = (anchor - same + 1e-6).norm(dim=-1)  # [B, D] -> [B]
    far = (anchor - other + 1e-6).norm(dim=-1)
    return reduce((near - far + margin).clamp(min=0), reduction)


class Network(nn.Module):
    """As many equal layers as one likes, to see what becomes of a signal on its way."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Linear(width, width) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:  # [B, D] -> [depth, B, D]
        seen = []
        for layer in self.layers:
            x = torch.relu(layer(x))
            seen.append(x)
        return torch.stack(seen)
