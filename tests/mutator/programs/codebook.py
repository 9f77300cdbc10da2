"""An autoencoder whose codes come from a codebook, with a gate that has its own derivative."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Clamp(torch.autograd.Function):
    """A limit on both sides; no gradient passes where it holds."""

    @staticmethod
    def forward(ctx, x, limit):
        inside = x.abs() < limit
        ctx.save_for_backward(inside)
        return x.clamp(-limit, limit)

    @staticmethod
    def backward(ctx, grad):
        (inside,) = ctx.saved_tensors
        return grad * inside, None


class Branch(nn.Module):
    """What is computed from the clipped input is added to the input as it is."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.ReLU(), nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class Coder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(6, 3)
        self.codes = nn.Parameter(torch.randn(8, 3))
        self.branch = Branch(3)
        self.decoder = nn.Linear(3, 6)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = Clamp.apply(self.encoder(x), 0.6)
        nearest = self.codes[torch.cdist(z, self.codes).argmin(dim=1)]
        commitment = F.mse_loss(z, nearest.detach())
        movement = (z.detach() - nearest).square().mean()
        passed = z + (nearest - z).detach()
        decoded = self.decoder(self.branch(passed))
        return decoded, 0.25 * commitment + movement


def fingerprint() -> list[float]:
    torch.manual_seed(0)
    model, x = Coder(), torch.randn(10, 6)
    decoded, extra = model(x)
    (F.mse_loss(decoded, x) + extra).backward()
    numbers = [*decoded.flatten().tolist(), extra.item()]
    for parameter in model.parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        numbers += gradient.flatten().tolist()
    return numbers
