"""Sentences about topics: words of one topic keep together, common words are everywhere.

Words are numbers. `COMMON` come first, then `WORDS` of each topic in turn; within a topic some are far more
frequent than others. Neighbouring sentences are about different topics.
"""

import numpy as np
import torch
from torch import Tensor

TOPICS, WORDS, COMMON = 10, 18, 12
VOCABULARY = COMMON + TOPICS * WORDS
SHORTEST, LONGEST = 6, 15
EVERYWHERE, ASTRAY = 0.35, 0.32  # share of common words, and of words from any topic


def sentences(count: int, seed: int) -> dict[str, Tensor]:
    """All words in a row, `tokens [M]`, and the number of the sentence of each, `sentence [M]`."""
    rng = np.random.default_rng(seed)
    zipf = 1 / np.arange(1, WORDS + 1)
    lengths = rng.integers(SHORTEST, LONGEST + 1, count)
    sentence = np.repeat(np.arange(count), lengths)
    topic = rng.integers(TOPICS, size=count)[sentence]
    kind = rng.random(len(sentence))
    topic = np.where(kind < ASTRAY, rng.integers(TOPICS, size=len(sentence)), topic)
    word = COMMON + WORDS * topic + rng.choice(WORDS, len(sentence), p=zipf / zipf.sum())
    tokens = np.where(kind > 1 - EVERYWHERE, rng.integers(COMMON, size=len(sentence)), word)
    return {"tokens": torch.from_numpy(tokens), "sentence": torch.from_numpy(sentence)}


def topic_of(words: Tensor) -> Tensor:
    """The topic of each word, -1 for a common one."""
    return torch.where(words < COMMON, -1, (words - COMMON) // WORDS)
