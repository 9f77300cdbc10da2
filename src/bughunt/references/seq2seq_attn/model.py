"""An encoder that reads in both directions, and a decoder that writes and looks back at what was read.

Shapes: B batch, S places of the source, T of the target, E channels, H encoder, D decoder, V characters.
"""

import torch
from attention import Attention
from config import Config
from text import PAD, SOURCE_SIZE, TARGET_SIZE
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

Memory = tuple[Tensor, Tensor, Tensor]  # keys [B, S, A], what was read [B, S, 2H], mask [B, S]


class Encoder(nn.Module):
    """Reads a source from both ends; padding is not read."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.token = nn.Embedding(SOURCE_SIZE, cfg.source_channels, padding_idx=PAD)
        self.dropout = nn.Dropout(cfg.dropout)
        self.gru = nn.GRU(cfg.source_channels, cfg.hidden, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(2 * cfg.hidden, cfg.state)

    def forward(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """[B, S], [B] -> what was read at each place [B, S, 2H], and where the decoder starts [B, D]."""
        x = self.dropout(self.token(source))  # [B, S, E]
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        outputs, last = self.gru(packed)  # last [2, B, H]: where each direction ended
        memory, _ = pad_packed_sequence(outputs, batch_first=True, total_length=source.size(1))
        ends = torch.cat([last[0], last[1]], dim=-1)  # [B, 2H]
        return memory, torch.tanh(self.bridge(ends))


class Decoder(nn.Module):
    """Writes one character after the other."""

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.token = nn.Embedding(TARGET_SIZE, cfg.target_channels, padding_idx=PAD)
        self.dropout = nn.Dropout(cfg.dropout)
        self.attention = Attention(cfg.state, 2 * cfg.hidden, cfg.attention)
        self.cell = nn.GRUCell(cfg.target_channels + 2 * cfg.hidden, cfg.state)
        self.head = nn.Linear(cfg.state + 2 * cfg.hidden, TARGET_SIZE)

    def remember(self, memory: Tensor, source: Tensor) -> Memory:
        return self.attention.keys(memory), memory, source != PAD

    def forward(self, token: Tensor, state: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """The last character [B] and the state [B, D] -> logits of the next one [B, V], the new state."""
        found, _ = self.attention(state, *memory)  # [B, 2H]
        x = self.dropout(self.token(token))  # [B, E]
        state = self.cell(torch.cat([x, found], dim=-1), state)
        return self.head(torch.cat([state, found], dim=-1)), state


class Translator(nn.Module):
    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.encoder = Encoder(cfg)
        self.decoder = Decoder(cfg)

    def read(self, source: Tensor, lengths: Tensor) -> tuple[Memory, Tensor]:  # [B, S], [B]
        memory, state = self.encoder(source, lengths)
        return self.decoder.remember(memory, source), state

    def forward(self, source: Tensor, lengths: Tensor, target: Tensor) -> Tensor:
        """[B, S], [B], [B, T] -> [B, T, V]: each place is answered knowing the true ones before it."""
        memory, state = self.read(source, lengths)
        logits = []
        for t in range(target.size(1)):
            answer, state = self.decoder(target[:, t], state, memory)
            logits.append(answer)
        return torch.stack(logits, dim=1)
