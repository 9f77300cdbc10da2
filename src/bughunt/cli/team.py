"""Playing in a competition: join it, send files to it, look at its board."""

import hashlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from bughunt.cli.output import emit
from bughunt.cli.session import Session, json_option
from bughunt.errors import UsageError

if TYPE_CHECKING:
    from bughunt.bugsets.challenge import Challenge
    from bughunt.play.arrival import Check
    from bughunt.play.remote import Remote

LOOK = 1.0  # seconds between two questions about a submission
CODES = {"SOLVED": 0, "TIMEOUT": 4, "INFRA": 3}


@click.command("join")
@click.argument("url")
@click.argument("invite", metavar="TOKEN")
@click.option("--name", help="How the team calls you; else your login.")
@click.option("--practice/--no-practice", default=True, help="Send a file that never counts, as a trial.")
@click.pass_obj
def join_command(session: Session, url: str, invite: str, name: str | None, practice: bool) -> int:
    """Join a team's competition; its challenges come into the workspace, and the way there is tried."""
    import getpass

    from bughunt.play.remote import Remote

    workspace = session.workspace
    if workspace.exists and session.remote is None and session.state().challenges:
        raise UsageError(
            f"{session.shown(workspace.root)} is a workspace for practice already",
            "bughunt --workspace DIR join URL TOKEN starts one for the competition",
        )
    joined = Remote(url).ask("join", {"invite": invite, "name": name or getpass.getuser()})
    remote = Remote(url, joined["token"])
    remote.remember(workspace)
    fetch(session, remote)
    me = remote.ask("me")
    session.say(f"You are {me['name']} of team {me['team_name']}.\n")
    fit = examine(session, remote, practice)
    session.say("bughunt list     the challenges that are open")
    session.say("bughunt next     opens one in " + session.shown(workspace.root) + "/")
    session.say("bughunt submit   sends your file to the host")
    return 0 if fit else 3


def examine(session: Session, remote: "Remote", practice: bool) -> bool:
    """Say whether this machine fits the host's, and whether a file gets a verdict; False if it did not."""
    from bughunt.play import arrival
    from bughunt.play.workspace import JOINED

    for one in arrival.checks(remote, session.workspace.root / JOINED):
        session.say(line(one))
    tried = None
    if practice:
        with progress(session) as show:
            tried = arrival.practice(remote, lambda state: show(f"practice: {state}"))
        session.say(line(tried))
    session.say("")
    return tried is None or tried.ok


def line(one: "Check") -> str:
    return f"  {'✓' if one.ok else '✗'} {one.name:<10s} {one.found}" + (
        f"\n      {one.remedy}" if one.remedy else ""
    )


def fetch(session: Session, remote: "Remote") -> None:
    """Bring the challenges that have begun into the workspace."""
    from bughunt.play.remote import PATIENT, install
    from bughunt.play.workspace import JOINED

    install(remote.ask("bundle", timeout=PATIENT), session.workspace.root / JOINED)


@click.command("board")
@click.option("--fetch", "fetching", is_flag=True, help="Bring the challenges of a new round too.")
@json_option
@click.pass_obj
def board_command(session: Session, fetching: bool) -> None:
    """The board of the competition that this workspace has joined."""
    from bughunt.show.tables import table

    remote = session.remote
    if remote is None:
        raise UsageError("this workspace has joined no competition", "bughunt join URL TOKEN")
    if fetching:
        fetch(session, remote)
    found = remote.ask("board")
    if session.json:
        emit("board", **found)
        return
    rows = [("#", "points", "penalty", "solved", "team")]
    for row in found["teams"]:
        solved = sum(cell["solved_at"] is not None for cell in row["cells"].values())
        rows.append((str(row["rank"]), str(row["points"]), str(row["penalty"]), str(solved), row["name"]))
    session.say(table(rows, width=session.screen.width))
    if found["frozen"]:
        session.say("\nThe board is frozen; what was judged since is shown after the unfreezing.")


def send(session: Session, remote: "Remote", challenge: "Challenge") -> int:
    """Send the player's files and wait for the verdict; sending the same twice is sending once."""
    from bughunt.play.syntax import first_fault

    files = session.workspace.program(challenge)
    if fault := first_fault(files):
        session.say(fault)
        return 1
    key = hashlib.sha256(repr((challenge.id, sorted(files.items()))).encode("utf-8", "replace")).hexdigest()
    body = {"challenge": challenge.id, "files": files}
    number = remote.ask("submissions", body, {"Idempotency-Key": key})["submission"]
    one = wait(session, remote, number)
    session.workspace.record("sent", challenge.id, submission=number, verdict=one["outcome"])
    if session.json:
        emit("submit", passed=one["outcome"] == "SOLVED", **one)
    else:
        session.say(told(number, one))
    return CODES.get(one["outcome"], 1)


def wait(session: Session, remote: "Remote", number: int) -> dict[str, Any]:
    """Until there is a verdict; Ctrl-C leaves the submission where it is."""
    try:
        with progress(session) as show:
            while True:
                one: dict[str, Any] = remote.ask(f"submissions/{number}")
                if one["outcome"]:
                    return one
                state = one["progress"] or f"{one['state']}, {one['before']} before it"
                show(f"submission {number}: {state}")
                time.sleep(LOOK)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"submission {number} is judged all the same: bughunt board") from None


@contextmanager
def progress(session: Session) -> Iterator[Callable[[str], None]]:
    """One line of a terminal that says how far something is, and is gone afterwards."""
    shown = sys.stderr.isatty() and not session.quiet and not session.json

    def show(state: str) -> None:
        if shown:
            sys.stderr.write(f"\r\x1b[K{state}")
            sys.stderr.flush()

    try:
        yield show
    finally:
        show("")


def told(number: int, one: dict[str, Any]) -> str:
    from bughunt.judge.verdict import SENTENCES, Outcome

    said = one["verdict"] or {}
    lines = [f"submission {number}" + (" · practice, not ranked" if one["late"] else "")]
    if tests := said.get("tests"):
        lines.append(f"  tests      {tests['passed']} of {tests['total']} hold")
    if said.get("recovery") is not None:
        lines.append(f"  recovery   {100 * said['recovery']:.0f} %")
    if said.get("detail"):
        lines.append(f"  program    ✗ {said['detail'].splitlines()[0]}")
    return "\n".join([*lines, "", SENTENCES[Outcome(one["outcome"])], "bughunt board"])
