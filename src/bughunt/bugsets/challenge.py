"""A challenge on disk: what the player may see, and one sealed file for the rest."""

import base64
import json
import tomllib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bughunt.errors import IntegrityError

FORMAT_VERSION = 1
SEALED = "sealed.dat"
CURVES = "curves.json"


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


@dataclass(frozen=True)
class Curves:
    """Measured training curves of one configuration and seed each, as the judge took them."""

    steps: Sequence[int]
    reference: Sequence[Sequence[float]]  # one list a seed
    broken: Sequence[Sequence[float]]
    reference_metric: Sequence[float]  # final metric, one a seed
    broken_metric: Sequence[float]
    seeds: Sequence[int]


@dataclass(frozen=True)
class Challenge:
    """One broken program with its symptoms. `folder` holds the files."""

    id: str
    title: str
    reference: str
    configuration: str
    level: int  # 1-5
    minutes: int
    metric: str  # name of the headline metric
    curve: str  # name of the curve
    tests: int
    folder: Path
    bugs: int = 1
    steps: int | None = None  # items of one training; None where it ends by itself

    @classmethod
    def load(cls, folder: Path) -> "Challenge":
        path = folder / "challenge.toml"
        try:
            fields = tomllib.loads(path.read_text(encoding="utf-8"))
            version = fields.pop("format_version")
            if version != FORMAT_VERSION:
                raise IntegrityError(
                    f"{path} has format {version}, this bughunt reads {FORMAT_VERSION}",
                    "install the bughunt that the set was made with",
                )
            return cls(folder=folder, **fields)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise IntegrityError(
                f"{path} cannot be read: {error}",
                "the set is damaged: install or generate it again",
            ) from error

    def program(self) -> dict[str, str]:
        """The broken program: path -> text, line ends as they are."""
        names = sorted({path.name for path in self.folder.glob("*.py")} | {"train.py"})
        return {name: self._text(name) for name in names}

    def brief(self) -> str:
        return self._text("brief.md")

    def curves(self) -> Curves:
        try:
            return Curves(**json.loads(self._text(CURVES)))
        except (ValueError, TypeError) as error:
            raise IntegrityError(
                f"{self.folder / CURVES} cannot be read: {error}",
                "the set is damaged: install or generate it again",
            ) from error

    def sealed(self) -> Sealed:
        return Sealed.load(self.folder / SEALED)

    def _text(self, name: str) -> str:
        try:
            with open(self.folder / name, encoding="utf-8", newline="") as file:
                return file.read()
        except (OSError, UnicodeDecodeError) as error:
            raise IntegrityError(
                f"{self.folder / name} cannot be read: {error}",
                "the set is damaged: install or generate it again",
            ) from error


@dataclass(frozen=True)
class BugSet:
    """An ordered folder of challenges."""

    name: str
    title: str
    folder: Path
    order: Sequence[str]

    @classmethod
    def load(cls, folder: Path) -> "BugSet":
        path = folder / "set.toml"
        try:
            fields = tomllib.loads(path.read_text(encoding="utf-8"))
            return cls(folder.name, fields["title"], folder, fields["challenges"])
        except (OSError, ValueError, KeyError) as error:
            raise IntegrityError(
                f"{path} cannot be read: {error}", "mend the file or remove the folder"
            ) from error

    def challenges(self) -> list[Challenge]:
        return [Challenge.load(self.folder / id_) for id_ in self.order]
