"""Which of a challenge's hidden seeds judge a file: the file itself chooses them."""

import hashlib
from collections.abc import Iterable, Mapping


def digest(challenge: str, files: Mapping[str, str]) -> bytes:
    """SHA-256 of the challenge's id and the bytes of its files: what the seeds are chosen by."""
    state = hashlib.sha256(challenge.encode())
    for name in sorted(files):
        content = files[name].encode("utf-8", errors="surrogateescape")
        state.update(f"\0{name}\0{len(content)}\0".encode() + content)
    return state.digest()


def choose_seeds(key: bytes, seeds: Iterable[int], count: int) -> tuple[int, ...]:
    """`count` of the sealed seeds; the same file always gets the same ones."""
    ranked = sorted(seeds, key=lambda seed: hashlib.sha256(key + str(seed).encode()).digest())
    return tuple(ranked[:count])
