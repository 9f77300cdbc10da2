"""A language model whose input and output share their weight, with a start for each kind of layer."""

import torch
from torch import Tensor, nn


class Tied(nn.Module):
    def __init__(self, vocab: int = 9, channels: int = 4) -> None:
        super().__init__()
        self.token = nn.Embedding(vocab, channels)
        self.head = nn.Linear(channels, vocab)
        self.apply(self.init_weights)
        self.head.weight = self.token.weight

    def init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.token(tokens))


def fingerprint() -> list[float]:
    torch.manual_seed(0)
    model = Tied()
    return model(torch.arange(9)).flatten().tolist()
