"""The sealed file of a challenge: compressed and encoded, which stops accidents, not a thief."""

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bughunt.errors import IntegrityError


@dataclass(frozen=True)
class Sealed:
    """What would give the challenge away."""

    reference: str  # slug of the program it was made from
    operators: Sequence[str]
    rows: Sequence[str]  # catalogue rows
    category: str
    hints: Sequence[str]  # LOOK, WHERE, WHAT
    post_mortem: str  # markdown
    evidence: Sequence[str]  # addresses
    repaired: Mapping[str, str]  # path -> text of the disguised, correct program
    where: Sequence[str]  # "train.py:function"
    fail_to_pass: Sequence[str]  # behaviour tests that fail on the broken program
    pass_to_pass: Sequence[str]
    seeds: Sequence[int]  # hidden seeds for submit
    label: str  # visible, deceptive, silent
    provenance: Mapping[str, Any]
    own_tests: Sequence[Sequence[str]] = field(
        default_factory=list
    )  # of several bugs: the tests that fail for each alone
    alone: Sequence[Mapping[str, str]] = field(
        default_factory=list
    )  # of several bugs: the program with only one of them in it

    def dump(self) -> bytes:
        text = json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)
        return base64.b85encode(zlib.compress(text.encode(), 9)) + b"\n"

    @classmethod
    def load(cls, path: Path) -> "Sealed":
        try:
            fields = json.loads(zlib.decompress(base64.b85decode(path.read_bytes().strip())))
            return cls(**fields)
        except (OSError, ValueError, TypeError, zlib.error) as error:
            raise IntegrityError(
                f"{path} cannot be opened ({type(error).__name__})",
                "the set is damaged: install or generate it again",
            ) from error
