"""Recurrent models: a summary in both directions, windows of a long text, pieces in a loop."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Summary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 4, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:  # [B, T, 3] -> [B, 8]
        _, h = self.rnn(x)
        return torch.cat([h[-2], h[-1]], dim=-1)


class Cell(nn.Module):
    """An LSTM cell that gives back its output and its memory."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.gates = nn.Linear(inputs + width, 4 * width)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        together = torch.cat([x, h], dim=-1)
        i, f, g, o = self.gates(together).chunk(4, dim=-1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        return h, c


def read_rows(cell: Cell, rows: Tensor, optim: torch.optim.Optimizer) -> list[float]:
    """One update for each row, each from a fresh state."""
    losses = []
    for row in rows:
        h = torch.zeros(1, 5)
        c = torch.zeros(1, 5)
        for t in range(len(row) - 1):
            h, c = cell(row[t : t + 1], h, c)
        loss = F.mse_loss(h, row[-1:])
        optim.zero_grad()
        loss.backward()
        optim.step()
        losses.append(loss.item())
    return losses


def read_text(cell: Cell, text: Tensor, window: int) -> list[float]:
    """Gradients of a whole text, taken window by window."""
    h, c = torch.zeros(1, 5), torch.zeros(1, 5)
    cell.zero_grad()
    for start in range(0, len(text) - 1, window):
        inputs, targets = text[start : start + window], text[start + 1 : start + window + 1]
        h = h.detach()
        c = c.detach()
        loss = torch.zeros(())
        for x, y in zip(inputs, targets, strict=False):
            h, c = cell(x[None], h, c)
            loss = loss + F.mse_loss(h, y[None])
        loss.backward()
    return cell.gates.weight.grad.flatten().tolist()


def averages(x: Tensor) -> Tensor:  # [B, T] -> [B, T - 1]
    """The mean of everything before each step."""
    means = []
    for t in range(1, x.size(1)):
        means.append(x[:, :t].mean(dim=1))
    return torch.stack(means, dim=1)


def fingerprint() -> list[float]:
    torch.manual_seed(0)
    cell = Cell(5, 5)
    optim = torch.optim.SGD(cell.parameters(), lr=0.1)
    numbers = Summary()(torch.randn(2, 6, 3)).flatten().tolist()
    numbers += read_rows(cell, torch.randn(3, 4, 5), optim)
    numbers += read_text(cell, torch.randn(11, 5), 3)
    return numbers + averages(torch.randn(2, 5)).flatten().tolist()
