"""Answers to prompts: drawn token by token, or the likeliest of several kept side by side.

Shapes: B prompts, T tokens of the longest, W beams, V vocabulary.
"""

import torch
from cache import Cache
from config import Sampling
from model import GPT
from sampling import distribution, draw
from torch import Generator, Tensor

PAD = 0


def side_by_side(prompts: list[list[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Prompts filled up on the right [B, T], and their lengths [B]."""
    longest = max(len(prompt) for prompt in prompts)
    rows = [prompt + [PAD] * (longest - len(prompt)) for prompt in prompts]
    lengths = [len(prompt) for prompt in prompts]
    return torch.tensor(rows, device=device), torch.tensor(lengths, device=device)


def prefill(model: GPT, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Cache]:
    """Read all prompts at once: logits after the last real token of each [B, V], and the cache."""
    cache = Cache(model.cfg, len(tokens), tokens.device)
    logits = model(tokens, cache)  # [B, T, V]
    cache.advance(lengths)
    rows = torch.arange(len(tokens), device=tokens.device)
    return logits[rows, lengths - 1], cache


@torch.no_grad()
def generate(model: GPT, prompts: list[list[int]], how: Sampling, rng: Generator) -> list[list[int]]:
    """New tokens for each prompt, up to its stop or the longest allowed."""
    tokens, lengths = side_by_side(prompts, model.token.weight.device)
    logits, cache = prefill(model, tokens, lengths)
    said = torch.zeros(logits.shape, dtype=torch.bool, device=logits.device)  # [B, V]
    for row, prompt in enumerate(prompts):
        said[row, prompt] = True
    answers = [[] for _ in prompts]
    open_ = torch.arange(len(prompts), device=logits.device)  # rows that have not ended
    for _ in range(min(how.longest, model.cfg.context - tokens.size(1))):
        token = draw(distribution(logits, said, how), rng)  # [B]
        said = said.scatter(1, token[:, None], True)
        for row, value in zip(open_.tolist(), token.tolist(), strict=True):
            answers[row].append(value)
        going = (token != how.stop).nonzero()[:, 0]
        if len(going) == 0:
            break
        if len(going) < len(open_):
            cache.pick(going)
            open_, said, token = open_[going], said[going], token[going]
        logits = model(token[:, None], cache)[:, -1]
        cache.advance(torch.ones_like(token))
    return answers


@torch.no_grad()
def log_likelihood(model: GPT, prompt: list[int], answer: list[int]) -> float:
    """Of the answer, given the prompt."""
    tokens = torch.tensor([prompt + answer], device=model.token.weight.device)
    logits = model(tokens[:, :-1])[0, len(prompt) - 1 :]  # one row a token of the answer
    chosen = logits.log_softmax(dim=-1).gather(1, tokens[0, len(prompt) :, None])
    return float(chosen.sum())


@torch.no_grad()
def beam(model: GPT, prompt: list[int], width: int, how: Sampling) -> list[tuple[list[int], float]]:
    """The best `width` answers that were found, with their log-likelihoods, the best first."""
    tokens, lengths = side_by_side([prompt], model.token.weight.device)
    logits, cache = prefill(model, tokens, lengths)
    open_: list[tuple[list[int], float]] = [([], 0.0)]
    done: list[tuple[list[int], float]] = []
    longest = min(how.longest, model.cfg.context - len(prompt))
    for length in range(1, longest + 1):
        so_far = torch.tensor([total for _, total in open_], device=logits.device)  # [W]
        totals = so_far[:, None] + logits.log_softmax(dim=-1)  # [W, V]
        best, places = totals.flatten().topk(min(width, totals.numel()))
        rows, kept = [], []
        for total, place in zip(best.tolist(), places.tolist(), strict=True):
            row, token = divmod(place, totals.size(1))
            answer = ([*open_[row][0], token], total)
            if token == how.stop or length == longest:
                done.append(answer)
            else:
                rows.append(row)
                kept.append(answer)
        if not kept:
            break
        open_ = kept
        cache.pick(torch.tensor(rows, device=logits.device))
        last = torch.tensor([[answer[-1]] for answer, _ in open_], device=logits.device)  # [W, 1]
        logits = model(last, cache)[:, -1]
        cache.advance(torch.ones_like(last[:, 0]))
    return sorted(done, key=lambda answer: -answer[1])[:width]
