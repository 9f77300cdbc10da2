"""Where the player is: the next challenge, the list, the status, and going back."""

import difflib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from bughunt.cli.output import emit
from bughunt.cli.session import Session, id_argument, json_option, plot_option, required_id
from bughunt.errors import BughuntError, UsageError

if TYPE_CHECKING:
    from bughunt.bugsets.challenge import Challenge
    from bughunt.play.progress import State

STARTS = "bughunt next   opens a challenge in {folder}/"


def where_am_i(session: Session) -> None:
    """What plain `bughunt` says: the open challenge and the next command; reads the log only."""
    workspace = session.workspace
    state = session.state() if workspace.exists else None
    current = state.current if state else None
    if session.json:
        emit("where", workspace=str(workspace.root), current=current)
    elif state is None or current is None:
        session.say("Broken model code, one challenge at a time. Nothing is open yet.\n")
        session.say(STARTS.format(folder=session.shown(workspace.root)))
        session.say("bughunt --help lists the commands")
    else:
        progress = state.of(current)
        session.say(f"{current}  {progress.state} · {_tries(progress.checks)}")
        session.say(_onward(current, progress.state, session))


def _onward(current: str, state: str, session: Session) -> str:
    if state == "started":
        file = session.shown(session.workspace.folder(current) / "train.py")
        return f"Edit {file}, then: bughunt check · bughunt hint · bughunt submit"
    return "bughunt explain · bughunt next"


def _tries(checks: int) -> str:
    return f"{checks} check{'s' * (checks != 1)}"


@click.command("next")
@click.option("--set", "set_name", help="Only challenges of this set.")
@click.option("--level", type=click.IntRange(1, 5), help="Only challenges of this level.")
@click.option("--skip", is_flag=True, help="Put the open challenge aside first.")
@plot_option
@json_option
@click.pass_obj
def next_command(
    session: Session, set_name: str | None, level: int | None, skip: bool, plot: bool | None
) -> None:
    """Open the next challenge, an unfinished one first, and show its brief."""
    state = session.state()
    if skip and state.current and state.of(state.current).open:
        session.workspace.record("skip", state.current)
        state = session.state()
    candidates = list(_candidates(session, set_name, level))
    chosen = _choose(candidates, state)
    if chosen is None:
        raise _nothing_left(len(candidates))
    open_challenge(session, chosen, plot, "take")


def _choose(candidates: "list[Challenge]", state: "State") -> "Challenge | None":
    """The open one, then what was begun, then what is new, then what was put aside."""
    for wanted in ("started", "new", "skipped"):
        fitting = [c for c in candidates if state.of(c.id).state == wanted]
        fitting.sort(key=lambda challenge: challenge.id != state.current)
        if fitting:
            return fitting[0]
    return None


def _candidates(session: Session, set_name: str | None, level: int | None) -> "Iterator[Challenge]":
    from bughunt.bugsets import library

    roots = session.roots
    for bugset in [library.find_set(set_name, roots)] if set_name else library.sets(roots):
        for challenge in bugset.challenges():
            if level in (None, challenge.level):
                yield challenge


def _nothing_left(count: int) -> BughuntError:
    if count == 0:
        return UsageError("no challenge fits", "bughunt list shows what there is")
    return BughuntError(
        f"all {count} challenges are done: well hunted",
        "bughunt generate --set NAME makes new ones; bughunt goto ID replays one",
    )


def open_challenge(session: Session, challenge: "Challenge", plot: bool | None, event: str) -> None:
    """Show the brief first, then lay out the files, then remember."""
    from bughunt.play.prepare import prepare
    from bughunt.show import screens

    workspace = session.workspace
    workspace.create()
    folder = workspace.folder(challenge.id)
    screen = session.screen
    if not session.json:
        shown = session.shown(folder)
        drawn = screen.tty if plot is None else plot
        then = "bughunt submit" if session.remote else "bughunt check"
        session.say(screens.brief(challenge, shown, screen.width, plot=drawn, then=then))
    workspace.take(challenge)
    workspace.record(event, challenge.id)
    if session.json:
        row = _row(challenge, session.state().of(challenge.id).state)
        emit("next", **row, folder=str(folder), brief=challenge.brief())
    try:
        prepare(challenge, folder)
    except ModuleNotFoundError as error:
        session.remark(f"data.npz and run.py are missing: {error.name} is not installed")


@click.command("goto")
@required_id
@plot_option
@json_option
@click.pass_obj
def goto_command(session: Session, id_: str, plot: bool | None) -> None:
    """Open any challenge; one that is done opens clean, your files go to the trash folder."""
    challenge = session.current(id_)
    progress = session.state().of(id_)
    if (progress.solved or progress.given_up) and not progress.replay:
        trash = session.workspace.write(challenge, challenge.program())
        session.remark(f"{id_} is {progress.state}: a clean replay; your files are in {trash}")
    open_challenge(session, challenge, plot, "goto")


@click.command("list")
@click.option("--set", "set_name", help="Only this set.")
@click.option("--pending", is_flag=True, help="Only what is not done.")
@click.option("--solved", is_flag=True, help="Only what is solved.")
@json_option
@click.pass_obj
def list_command(session: Session, set_name: str | None, pending: bool, solved: bool) -> None:
    """All challenges: level, minutes, state and symptom."""
    from bughunt.show.tables import table

    state = session.state()
    rows = []
    for challenge in _candidates(session, set_name, None):
        progress = state.of(challenge.id)
        done = progress.solved or progress.given_up
        if (pending and done) or (solved and not progress.solved):
            continue
        rows.append((challenge, progress.state))
    if session.json:
        emit("list", challenges=[_row(challenge, found) for challenge, found in rows])
        return
    head = ("id", "lvl", "min", "state", "symptom")
    body = [(c.id, str(c.level), str(c.minutes), found, c.title) for c, found in rows]
    session.say(table([head, *body], width=session.screen.width) if rows else "Nothing to show.")


def _row(challenge: "Challenge", state: str) -> dict[str, object]:
    return {
        "id": challenge.id,
        "title": challenge.title,
        "level": challenge.level,
        "minutes": challenge.minutes,
        "state": state,
    }


@click.command("status")
@json_option
@click.pass_obj
def status_command(session: Session) -> None:
    """What is open, what is solved, and the points."""
    from bughunt.bugsets import library
    from bughunt.show.tables import bar, table

    workspace, state = session.workspace, session.state()
    known = library.sets(session.roots)
    counts = [(s.name, sum(state.of(id_).solved for id_ in s.order), len(s.order)) for s in known]
    points = sum(progress.points for progress in state.challenges.values())
    if session.json:
        emit(
            "status",
            workspace=str(workspace.root) if workspace.exists else None,
            current=state.current,
            state=state.of(state.current).state if state.current else None,
            solved=len(state.ids("solved")),
            given_up=len(state.ids("given up")),
            points=points,
            sets=[{"name": n, "solved": done, "challenges": total} for n, done, total in counts],
        )
        return
    where_am_i(session)
    rows = [(name, bar(done, total)) for name, done, total in counts]
    session.say("\n" + table([*rows, ("points", str(points))]))


@click.command("diff")
@id_argument
@click.option("--stat", is_flag=True, help="Only how many lines changed.")
@click.pass_obj
def diff_command(session: Session, id_: str | None, stat: bool) -> None:
    """Your changes against the broken original."""
    challenge = session.current(id_)
    files = session.workspace.program(challenge)
    if stat:
        from bughunt.bugsets.change import changed_lines

        changed = changed_lines(challenge.program(), files)
        rows = [f"{name}  {count} line{'s' * (count != 1)}" for name, count in changed.items()]
        session.say("\n".join(rows) or "no change")
        return
    for name, original in challenge.program().items():
        lines = difflib.unified_diff(
            original.splitlines(), files[name].splitlines(), f"original/{name}", name, lineterm=""
        )
        for line in lines:
            session.say(line.encode("utf-8", errors="replace").decode())


@click.command("reset")
@id_argument
@click.option("--to", default="original", help="original, best, last or the number of an attempt.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def reset_command(session: Session, id_: str | None, to: str, yes: bool) -> None:
    """Put an earlier version back; the present files go to the trash folder."""
    challenge = session.current(id_)
    workspace = session.workspace
    files = workspace.version(challenge, session.state().of(challenge.id), to)
    if not yes:
        if not session.may_ask():
            raise UsageError("reset replaces your files", "bughunt reset --yes")
        click.confirm(f"Put {challenge.id} back to {to}?", abort=True, err=True)
    trash = workspace.write(challenge, files)
    workspace.record("reset", challenge.id, to=to)
    session.say(f"{challenge.id} is back to {to}; what was there is in {session.shown(trash)}")
