"""A moving average of weights whose decay grows, for a layer with spectral normalisation."""

import copy

import torch
from torch import nn


class Averaged:
    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        latest = model.state_dict()
        for name, value in self.model.state_dict().items():
            if name.endswith(("_u", "_v")):
                value.copy_(latest[name])
            else:
                value.lerp_(latest[name], 1 - decay)


def parameters(model: nn.Module) -> list[dict[str, object]]:
    no_decay = ["bias", "gain"]
    named = list(model.named_parameters())
    decay = [p for n, p in named if not any(word in n for word in no_decay)]
    rest = [p for n, p in named if any(word in n for word in no_decay)]
    return [{"params": decay, "weight_decay": 0.3}, {"params": rest, "weight_decay": 0.0}]


def fingerprint() -> list[float]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3)))
    nn.init.ones_(model[0].bias)
    average = Averaged(model, decay=0.95)
    optimizer = torch.optim.SGD(parameters(model), lr=0.3)
    x = torch.randn(6, 4)
    for _ in range(5):
        optimizer.zero_grad()
        loss = (model(x) - 2 * x[:, :3]).square().mean()
        loss.backward()
        optimizer.step()
        average.update(model)
    average.model.eval()
    with torch.no_grad():
        return [*average.model(x).flatten().tolist(), *model[0].bias.tolist()]
