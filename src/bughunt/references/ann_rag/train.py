"""Passages for a question: text is cut into chunks, chunks become vectors, and near vectors are found fast.

The index puts every vector into the cell of its nearest centre and looks only into the cells nearest to the
question. Vectors are of unit length, so that a dot product is the cosine. Rows can be added and deleted; each
keeps the identity that it was added under.

Shapes: N vectors, D numbers in each, C cells, Q questions, K answers.
"""

import re
import zlib
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy import ndarray


@dataclass(frozen=True, kw_only=True)
class Config:
    cells: int = 24
    rounds: int = 9
    probes: int = 3
    width: int = 40  # words of a chunk
    overlap: int = 12  # words that a chunk shares with the one before
    size: int = 96  # numbers in the vector of a text


def chunks(text: str, width: int, overlap: int) -> list[str]:
    """Stretches of `width` words, each beginning `width - overlap` words after the one before.

    The last one ends with the text; a text that is short is one chunk, and no chunk lies inside another.
    """
    words = text.split()
    step = width - overlap
    starts = range(0, max(1, len(words) - overlap), step)
    return [" ".join(words[start : start + width]) for start in starts] if words else []


def tokens(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def rarity(texts: list[str]) -> dict[str, float]:
    """For each word the logarithm of one over the share of texts that have it, smoothed."""
    seen = Counter(word for text in texts for word in set(tokens(text)))
    return {word: float(np.log((1 + len(texts)) / (1 + count))) + 1 for word, count in seen.items()}


def embed(text: str, weights: dict[str, float], size: int) -> ndarray:  # -> [size]
    """Words hashed to places and signs, each by how often it comes and how rare it is; unit length or zero.

    Words that no text had weigh as much as the rarest.
    """
    vector = np.zeros(size)
    unknown = max(weights.values(), default=1.0)
    for word, count in Counter(tokens(text)).items():
        code = zlib.crc32(word.encode())
        sign = 1.0 if code // size % 2 == 0 else -1.0
        vector[code % size] += sign * (1 + np.log(count)) * weights.get(word, unknown)
    return normalise(vector[None])[0]


def normalise(vectors: ndarray) -> ndarray:  # [N, D] -> [N, D]
    """Rows of unit length; a row of zeros stays one."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1.0)


def nearest(vectors: ndarray, queries: ndarray, count: int) -> tuple[ndarray, ndarray]:  # -> [Q, K], [Q, K]
    """Rows with the largest cosines and these, largest first; equal ones by the smaller row."""
    scores = normalise(queries) @ vectors.T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return order, np.take_along_axis(scores, order, axis=1)


def centres(vectors: ndarray, cells: int, rounds: int, rng: np.random.Generator) -> ndarray:  # -> [C, D]
    """Spherical k-means from distinct rows; a centre that nobody is near to takes the row that fits worst."""
    found = vectors[rng.choice(len(vectors), cells, replace=False)].copy()
    for _ in range(rounds):
        scores = vectors @ found.T  # [N, C]
        cell = scores.argmax(axis=1)
        fit = scores.max(axis=1)
        for number in range(cells):
            members = cell == number
            if members.any():
                found[number] = vectors[members].sum(axis=0)
            else:
                worst = int(fit.argmin())
                found[number] = vectors[worst]
                fit[worst] = np.inf  # taken
        found = normalise(found)
    return found


@dataclass
class Index:
    """Vectors in cells, under identities of the caller's choice."""

    centres: ndarray  # [C, D]
    cells: list[list[int]] = field(default_factory=list)  # identities
    vectors: dict[int, ndarray] = field(default_factory=dict)
    scanned: int = 0  # dot products with vectors so far

    def __post_init__(self) -> None:
        self.cells = [[] for _ in range(len(self.centres))]

    def cell_of(self, vector: ndarray) -> int:
        return int((self.centres @ vector).argmax())

    def add(self, identities: list[int], vectors: ndarray) -> None:
        """Put vectors in under their identities; one that is there already is replaced."""
        for identity, vector in zip(identities, normalise(vectors), strict=True):
            if identity in self.vectors:
                self.delete([identity])
            self.vectors[identity] = vector
            self.cells[self.cell_of(vector)].append(identity)

    def delete(self, identities: list[int]) -> int:
        """Take vectors out; says how many there were."""
        count = 0
        for identity in identities:
            vector = self.vectors.pop(identity, None)
            if vector is not None:
                self.cells[self.cell_of(vector)].remove(identity)
                count += 1
        return count

    def search(self, query: ndarray, count: int, probes: int) -> tuple[list[int], list[float]]:
        """Identities and cosines of the nearest in the cells nearest to the query, largest first.

        Where these hold too few, further cells are looked into, as long as there are any.
        """
        query = normalise(query[None])[0]
        order = np.argsort(-(self.centres @ query), kind="stable")
        candidates: list[int] = []
        for place, cell in enumerate(order):
            if place >= probes and len(candidates) >= count:
                break
            candidates += self.cells[cell]
        if not candidates:
            return [], []
        self.scanned += len(candidates)
        candidates.sort()
        scores = np.stack([self.vectors[identity] for identity in candidates]) @ query
        best = np.argsort(-scores, kind="stable")[:count]
        return [candidates[place] for place in best], [float(scores[place]) for place in best]


def build_index(vectors: ndarray, cfg: Config, rng: np.random.Generator) -> Index:
    """An index of all rows under their numbers; never more cells than rows."""
    unit = normalise(vectors)
    index = Index(centres(unit, min(cfg.cells, len(unit)), cfg.rounds, rng))
    index.add(list(range(len(unit))), unit)
    return index


def recall(found: list[list[int]], truth: list[list[int]]) -> float:
    """The share of the true neighbours that were found."""
    hits = sum(len(set(one) & set(other)) for one, other in zip(found, truth, strict=True))
    return hits / max(1, sum(len(other) for other in truth))


def spread(order: list[int], vectors: ndarray, query: ndarray, count: int, balance: float) -> list[int]:
    """Of the candidates those that are near the query and unlike one another, one after the other.

    Each next one has the largest `balance` times nearness less `1 - balance` times its likeness to the likest
    chosen.
    """
    unit, question = normalise(vectors), normalise(query[None])[0]
    chosen: list[int] = []
    left = list(order)
    while left and len(chosen) < count:
        alike = [max((float(unit[row] @ unit[other]) for other in chosen), default=0.0) for row in left]
        gains = [
            balance * float(unit[row] @ question) - (1 - balance) * likeness
            for row, likeness in zip(left, alike, strict=True)
        ]
        chosen.append(left.pop(int(np.argmax(gains))))
    return chosen


def passages(
    texts: list[str], questions: list[str], count: int, cfg: Config, rng: np.random.Generator
) -> list:
    """For each question the passages that go with it, best first, each with the number of its text."""
    pieces = [
        (number, piece) for number, text in enumerate(texts) for piece in chunks(text, cfg.width, cfg.overlap)
    ]
    weights = rarity([piece for _, piece in pieces])
    vectors = np.stack([embed(piece, weights, cfg.size) for _, piece in pieces])
    index = build_index(vectors, cfg, rng)
    found = []
    for question in questions:
        rows, _ = index.search(embed(question, weights, cfg.size), count, cfg.probes)
        found.append([pieces[row] for row in rows])
    return found
