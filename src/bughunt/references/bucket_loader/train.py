"""Batches of sequences of unlike lengths: who goes with whom, how they are padded, and in which order.

A loader sees every row once a pass. Rows of nearly equal length go into one batch, so that little is padded,
and yet no two passes have the same batches. All rows of a batch are padded to the longest one of that batch.

Shapes: N rows in all, B rows in a batch, T places of the longest row in it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

PAD = 2  # as in vocabularies that begin with the marks of a start and of an end


@dataclass(frozen=True, kw_only=True)
class Config:
    batch: int = 12
    pool: int = 6  # batches' worth of rows that are sorted together
    drop_last: bool = False
    seed: int = 17


def pass_rng(seed: int, epoch: int) -> Generator:
    """The generator of one pass; passes differ, and each can be had again."""
    return Generator().manual_seed(seed * 1_000_003 + epoch)


def shuffled(count: int, seed: int, epoch: int) -> list[int]:
    return torch.randperm(count, generator=pass_rng(seed, epoch)).tolist()


def weighted(weights: Tensor, count: int, seed: int, epoch: int) -> list[int]:  # [N] -> count rows
    """Rows as often as their weights say; the same row may come again."""
    return torch.multinomial(weights, count, replacement=True, generator=pass_rng(seed, epoch)).tolist()


def balanced_weights(labels: list[int]) -> Tensor:  # N labels -> [N]
    """Weights under which all labels come equally often."""
    classes = torch.tensor(labels)
    counts = torch.bincount(classes).double()
    return 1 / counts[classes]


def chunks(rows: list[int], size: int, drop_last: bool = False) -> list[list[int]]:
    """Consecutive batches; the last one may be short, or left out if it is."""
    batches = [rows[start : start + size] for start in range(0, len(rows), size)]
    if drop_last and batches and len(batches[-1]) < size:
        batches.pop()
    return batches


def bucketed(lengths: list[int], cfg: Config, epoch: int) -> list[list[int]]:
    """Batches of rows of nearly equal length, in random order.

    A shuffled pass is cut into pools, each pool is sorted by length and cut into batches, and the batches of
    all pools are shuffled: long ones do not come first, and neighbours are not the same in every pass.
    """
    order = shuffled(len(lengths), cfg.seed, epoch)
    batches = []
    for pool in chunks(order, cfg.batch * cfg.pool):
        by_length = sorted(pool, key=lambda row: lengths[row])
        batches += chunks(by_length, cfg.batch, cfg.drop_last)
    places = torch.randperm(len(batches), generator=pass_rng(cfg.seed + 1, epoch))
    return [batches[place] for place in places.tolist()]


def budgeted(rows: list[int], lengths: list[int], budget: int) -> list[list[int]]:
    """Consecutive batches of as many rows as fit: rows times the longest length is at most the budget.

    A row that is longer than the budget is a batch of its own.
    """
    batches: list[list[int]] = []
    longest = 0
    for row in rows:
        longest = max(longest, lengths[row])
        if batches and (len(batches[-1]) + 1) * longest <= budget:
            batches[-1].append(row)
        else:
            batches.append([row])
            longest = lengths[row]
    return batches


def padding_share(batches: list[list[int]], lengths: list[int]) -> float:
    """The share of all places that no row needs."""
    used = sum(lengths[row] for batch in batches for row in batch)
    made = sum(len(batch) * max(lengths[row] for row in batch) for batch in batches if batch)
    return 1 - used / made if made else 0.0


def truncate(sequence: list[int], limit: int, keep_end: bool) -> list[int]:
    """At most `limit` places, from the end or from the beginning."""
    if len(sequence) <= limit:
        return sequence
    return sequence[len(sequence) - limit :] if keep_end else sequence[:limit]


def pad(sequences: list[list[int]], left: bool = False) -> tuple[Tensor, Tensor]:  # -> [B, T], [B, T]
    """The sequences with padding behind (or before) them, and where they are not padding."""
    longest = max(map(len, sequences), default=0)
    tokens = torch.full((len(sequences), longest), PAD, dtype=torch.long)
    mask = torch.zeros(len(sequences), longest, dtype=torch.bool)
    for row, sequence in enumerate(sequences):
        start = longest - len(sequence) if left else 0
        tokens[row, start : start + len(sequence)] = torch.tensor(sequence, dtype=torch.long)
        mask[row, start : start + len(sequence)] = True
    return tokens, mask


def collate(sequences: list[list[int]], labels: list[int], rows: list[int]) -> dict[str, Tensor]:
    """One batch: tokens and mask [B, T]; lengths, labels and the rows' own numbers [B]."""
    tokens, mask = pad([sequences[row] for row in rows])
    return {
        "tokens": tokens,
        "mask": mask,
        "lengths": torch.tensor([len(sequences[row]) for row in rows], dtype=torch.long),
        "labels": torch.tensor([labels[row] for row in rows], dtype=torch.long),
        "rows": torch.tensor(rows, dtype=torch.long),
    }


def load(
    sequences: list[list[int]], labels: list[int], cfg: Config, epoch: int
) -> Iterator[dict[str, Tensor]]:
    """The batches of one pass."""
    for rows in bucketed([len(sequence) for sequence in sequences], cfg, epoch):
        yield collate(sequences, labels, rows)


def one_pass(
    sequences: list[list[int]], labels: list[int], cfg: Config, epoch: int, done: int = 0
) -> list[dict[str, Tensor]]:
    """The batches of one pass; after an interruption those that have not been done."""
    return list(load(sequences, labels, cfg, epoch))[done:]


def shifted(tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # [B, T] -> thrice [B, T - 1]
    """What to read, what comes next, and where there is something next."""
    return tokens[:, :-1], tokens[:, 1:], mask[:, 1:]


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:  # [B, T, ...], [B, T] -> [B, ...]
    """The mean over the places that are not padding; zero for a row without any."""
    weights = mask.to(values.dtype).reshape(*mask.shape, *[1] * (values.dim() - 2))
    total = values.masked_fill(weights == 0, 0).sum(dim=1)
    return total / weights.sum(dim=1).clamp(min=1)


def restore(answers: list[Tensor], batches: list[list[int]]) -> Tensor:  # batches of [B, ...] -> [N, ...]
    """Answers in the order of the rows, whatever the batches were."""
    order = torch.tensor([row for batch in batches for row in batch])
    together = torch.cat(answers)
    return together[torch.argsort(order)]


def pack(sequences: list[list[int]], width: int) -> tuple[Tensor, Tensor]:  # -> twice [rows, width]
    """Whole sequences side by side in rows of one width, each in the first row that has room.

    The second table numbers the sequences of a row from one; zero is padding. No sequence may be longer than
    a row.
    """
    rows: list[list[list[int]]] = []
    for sequence in sequences:
        fitting = (row for row in rows if sum(map(len, row)) + len(sequence) <= width)
        row = next(fitting, None)
        if row is None:
            row = []
            rows.append(row)
        row.append(sequence)
    tokens = torch.full((len(rows), width), PAD, dtype=torch.long)
    owners = torch.zeros(len(rows), width, dtype=torch.long)
    for number, row in enumerate(rows):
        start = 0
        for owner, sequence in enumerate(row, start=1):
            tokens[number, start : start + len(sequence)] = torch.tensor(sequence)
            owners[number, start : start + len(sequence)] = owner
            start += len(sequence)
    return tokens, owners


def same_owner(owners: Tensor) -> Tensor:  # [rows, width] -> [rows, width, width]
    """Which places of a packed row may see which: those of the same sequence, and never padding."""
    return (owners[:, :, None] == owners[:, None, :]) & (owners > 0)[:, None, :]
