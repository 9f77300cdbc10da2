"""Decoding from a small GPT: a cache of keys and values, sampling, beams and stops.

Nothing is trained here. `config` has the settings, `cache` and `model` the network, `sampling` the choice of
a token, `search` the loops.
"""

import torch
from config import Config, Sampling
from model import GPT
from search import beam, generate, log_likelihood
from torch import Tensor

__all__ = ["Config", "beam_answers", "build", "complete", "logits", "score"]


def build(cfg: Config) -> GPT:
    return GPT(cfg).eval()


@torch.no_grad()
def logits(model: GPT, tokens: Tensor) -> Tensor:  # [B, T] -> [B, T, V]
    """At all positions, without a cache."""
    return model(tokens)


def complete(model: GPT, prompts: list[list[int]], seed: int, **how: float) -> dict[str, object]:
    """New tokens for each prompt, and how many tokens were read for all of them."""
    before = model.read
    rng = torch.Generator().manual_seed(seed)
    answers = generate(model, prompts, Sampling(**how), rng)
    return {"answers": answers, "read": model.read - before}


def beam_answers(model: GPT, prompt: list[int], width: int, **how: float) -> dict[str, object]:
    """Pairs of answer and log-likelihood, and how many tokens were read for them."""
    before = model.read
    answers = beam(model, prompt, width, Sampling(**how))
    return {"answers": answers, "read": model.read - before}


def score(model: GPT, prompt: list[int], answer: list[int]) -> float:
    """The log-likelihood of an answer to a prompt."""
    return log_likelihood(model, prompt, answer)
