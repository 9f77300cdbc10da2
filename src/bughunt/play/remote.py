"""A joined workspace: where its competition is, and how to talk to it."""

import json
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bughunt.errors import BughuntError, MachineError
from bughunt.files import write_bytes
from bughunt.play.workspace import HIDDEN, Workspace

FILE = "competition.json"
TIMEOUT = 30.0  # seconds
PATIENT = 300.0  # for what the server may have to make first


class RefusedError(BughuntError):
    """The competition's server said no."""

    code = "refused"


@dataclass(frozen=True)
class Remote:
    """One member's way to one competition."""

    url: str
    token: str = ""
    set_name: str = ""

    @classmethod
    def of(cls, workspace: Workspace) -> "Remote | None":
        """The competition that a workspace has joined, if any."""
        path = workspace.root / HIDDEN / FILE
        if not path.is_file():
            return None
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise MachineError(f"{path} cannot be read: {error}", "bughunt join URL TOKEN again") from None

    def remember(self, workspace: Workspace) -> None:
        """Keep the token for the owner's eyes only."""
        workspace.create()
        write_bytes(workspace.root / HIDDEN / FILE, json.dumps(asdict(self)).encode(), mode=0o600)

    def ask(
        self, path: str, body: Any = None, headers: dict[str, str] | None = None, timeout: float = TIMEOUT
    ) -> Any:
        """One answer of the API; RefusedError with the server's own words, MachineError without a server."""
        request = urllib.request.Request(f"{self.url.rstrip('/')}/api/v1/{path}")
        request.add_header("Accept", "application/json")
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise _refusal(error) from None
        except (urllib.error.URLError, TimeoutError, ConnectionError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise MachineError(
                f"{self.url} does not answer: {reason}", "is the address right? the host can say"
            ) from None


def install(bundle: dict[str, Any], root: Path) -> Path:
    """Write the challenges of a bundle as a bug set below `root`; nothing in it is sealed."""
    from bughunt.bugsets.write import toml
    from bughunt.files import write_text, write_tree

    folder = root / str(bundle["set"])
    for one in bundle["challenges"]:
        write_tree(folder / _plain(one["id"]), {_plain(name): text for name, text in one["files"].items()})
    ids = [one["id"] for one in bundle["challenges"]]
    fields = {"title": bundle["competition"], "format_version": 1, "challenges": ids}
    write_text(folder / "set.toml", toml(fields))
    return folder


def _plain(name: str) -> str:
    """A name that stays in its folder."""
    if Path(name).name != name or name.startswith("."):
        raise MachineError(f"the server sent a file called {name!r}", "tell the host")
    return name


def _refusal(error: urllib.error.HTTPError) -> BughuntError:
    try:
        said = json.load(error)
        return RefusedError(said["message"], said.get("remedy", ""))
    except (ValueError, KeyError, TypeError):
        return MachineError(f"{error.url} answered {error.code} {error.reason}", "tell the host")
