"""Writing an answer with what the model itself wrote before."""

import torch
from model import Translator
from text import END, PAD, START
from torch import Tensor


@torch.no_grad()
def greedy(model: Translator, source: Tensor, lengths: Tensor, longest: int) -> Tensor:
    """[B, S], [B] -> [B, T]: the likeliest character each time, padding after the end."""
    memory, state = model.read(source, lengths)
    token = source.new_full((len(source),), START)
    ended = torch.zeros_like(token, dtype=torch.bool)
    written = []
    for _ in range(longest):
        logits, state = model.decoder(token, state, memory)  # [B, V]
        token = logits.argmax(dim=-1).masked_fill(ended, PAD)
        written.append(token)
        ended = ended | (token == END)
        if bool(ended.all()):
            break
    return torch.stack(written, dim=1)
