"""A challenge on disk: what the player may see, and one sealed file for the rest."""

import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bughunt.errors import IntegrityError

if TYPE_CHECKING:
    from bughunt.bugsets.sealed import Sealed

FORMAT_VERSION = 1
SEALED = "sealed.dat"
CURVES = "curves.json"


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

    def sealed(self) -> "Sealed":
        from bughunt.bugsets.sealed import Sealed  # what it needs is needed for nothing else

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
