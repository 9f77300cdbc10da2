"""What the options before a command decide, and the decorators that commands share."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bughunt.cli.output import note, write
from bughunt.show.terminal import Terminal, terminal

if TYPE_CHECKING:
    from bughunt.bugsets.challenge import Challenge
    from bughunt.play.progress import State
    from bughunt.play.remote import Remote
    from bughunt.play.workspace import Workspace

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass
class Session:
    """One run of bughunt."""

    json: bool = False
    folder: Path | None = None
    color: bool | None = None
    ascii: bool = False
    no_input: bool = False
    quiet: bool = False

    @property
    def screen(self) -> Terminal:
        return terminal(sys.stdout, color=self.color, ascii_only=self.ascii)

    @property
    def workspace(self) -> "Workspace":
        from bughunt.play.workspace import Workspace, locate

        return Workspace(locate(self.folder, os.environ.get("BUGHUNT_HOME"), Path.cwd()))

    @property
    def remote(self) -> "Remote | None":
        """The competition that this workspace has joined."""
        from bughunt.play.remote import Remote

        return Remote.of(self.workspace)

    @property
    def roots(self) -> "list[Path] | None":
        """Where bug sets are looked for: in a joined workspace only the competition's."""
        from bughunt.play.workspace import JOINED

        joined = self.workspace.root / JOINED
        return [joined] if joined.is_dir() else None

    def alone(self, command: str) -> None:
        """Refuse what a competition leaves to its host."""
        if self.remote is not None:
            from bughunt.errors import UsageError

            raise UsageError(
                f"{command} needs what is sealed, and in a competition the host has that",
                "run.py trains your file here; bughunt submit sends it",
            )

    def say(self, text: str) -> None:
        """Text for a person, in what the stream can show."""
        encoding = sys.stdout.encoding or "ascii"
        shown = self.screen.dress(text)
        write(shown.encode(encoding, errors="replace").decode(encoding))

    def remark(self, text: str) -> None:
        """A remark on stderr, unless there should be none."""
        if not self.quiet and not self.json:
            note(text)

    def state(self) -> "State":
        state, backup = self.workspace.state()
        if backup:
            note(f"the log had an unreadable end; it is kept in {backup}")
        return state

    def current(self, asked: str | None = None) -> "Challenge":
        """The challenge named, or the one that was opened last."""
        from bughunt.bugsets import library
        from bughunt.errors import UsageError

        id_ = asked or self.state().current
        if id_ is None:
            raise UsageError("no challenge is open", "bughunt next opens one")
        return library.find_challenge(id_, self.roots)

    def may_ask(self) -> bool:
        return sys.stdin.isatty() and sys.stdout.isatty() and not self.no_input and not self.json

    def shown(self, path: Path) -> str:
        """A path as short as it can be said from here."""
        try:
            return str(path.resolve().relative_to(Path.cwd()))
        except ValueError:
            return str(path)


def json_option(command: Command) -> Command:
    """`--json` after the command means what it means before it."""

    def remember(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
        if value:
            context.ensure_object(Session).json = True

    option = click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        callback=remember,
        help="Print one JSON object instead of text.",
    )
    return option(command)


def id_argument(command: Command) -> Command:
    """An optional challenge id, completed from the sets on this machine."""
    return click.argument("id_", metavar="[ID]", required=False, shell_complete=_ids)(command)


def required_id(command: Command) -> Command:
    return click.argument("id_", metavar="ID", shell_complete=_ids)(command)


def plot_option(command: Command) -> Command:
    text = "Draw the curves; by default only on a terminal."
    return click.option("--plot/--no-plot", default=None, help=text)(command)


def _ids(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    from bughunt.bugsets import library

    return [id_ for s in library.sets() for id_ in s.order if id_.startswith(incomplete)]
