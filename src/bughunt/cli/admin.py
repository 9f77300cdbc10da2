"""Running a competition that is hosted: every act of its officials, each one line of the audit log."""

import contextlib
from pathlib import Path
from typing import Any

import click

from bughunt.cli.host import DATA, executed, judges, server
from bughunt.cli.output import emit
from bughunt.cli.session import Session, json_option
from bughunt.errors import UsageError


@click.group("admin")
@DATA
@click.pass_context
def admin_command(context: click.Context, data: Path) -> None:
    """Run a competition: rounds, freeze, people, judging again, backup."""
    session = context.obj
    server()
    context.obj = Office(session, data)


class Office:
    """A session with the competition that it is about."""

    def __init__(self, session: Session, data: Path) -> None:
        from bughunt_leaderboard.folder import Folder
        from bughunt_leaderboard.referee import Referee
        from bughunt_leaderboard.store import Store, reachable

        self.session = session
        self.folder = Folder.load(data)
        self.store = Store(self.folder.database)
        reachable(self.store)
        self.referee: Referee = Referee(self.store)
        self.json = session.json
        self.say = session.say


@admin_command.command("round")
@click.argument("name")
@click.option("--start", help="ISO 8601, UTC where no zone is said; else now.")
@click.option("--minutes", type=click.IntRange(1), help="How long it lasts from its start.")
@click.option("--end", help="ISO 8601 instead of --minutes.")
@click.option("--challenge", "challenges", multiple=True, help="A challenge of it; repeat it. Else all.")
@click.pass_obj
def round_command(
    office: Office,
    name: str,
    start: str | None,
    minutes: int | None,
    end: str | None,
    challenges: tuple[str, ...],
) -> None:
    """Make a round, or move or extend the one of that name."""
    from bughunt_leaderboard import clock
    from bughunt_leaderboard.rules import MINUTE

    state = office.referee.fresh()
    old = state.rounds.get(name)
    try:
        begin = clock.parse(start) if start else (old.start if old else clock.now())
        close = (
            clock.parse(end) if end else (begin + minutes * MINUTE if minutes else (old.end if old else 0))
        )
    except ValueError as error:
        raise UsageError(str(error), "2026-01-31T12:00") from None
    shown = list(challenges) or (list(old.challenges) if old else list(state.levels))
    office.referee.set_round("admin", name, begin, close, shown)
    office.say(f"{name}: {clock.shown(begin)} to {clock.shown(close)}, {len(shown)} challenges")


def _plain_act(name: str, help_: str) -> None:
    @admin_command.command(name, help=help_)
    @click.pass_obj
    def act(office: Office) -> None:
        getattr(office.referee, name)("admin")
        office.say("done")


for _name, _help in {
    "pause": "Take no submissions until resumed.",
    "resume": "Go on; rounds that had not ended get the time back.",
    "freeze": "Show everybody the board as it is now, until the unfreezing.",
    "unfreeze": "Show the board as it is.",
}.items():
    _plain_act(_name, _help)


@admin_command.command("extend")
@click.argument("team", type=int)
@click.argument("minutes", type=int)
@click.pass_obj
def extend_command(office: Office, team: int, minutes: int) -> None:
    """Give one team more time at the end of each round."""
    office.referee.extend("admin", team, minutes)
    office.say(f"team {team} has {minutes} minutes more")


@admin_command.command("invite")
@click.argument("team")
@click.option("--uses", type=click.IntRange(1), default=5, show_default=True, help="How many may use it.")
@click.option(
    "--hours", type=click.FloatRange(0.01), default=72.0, show_default=True, help="Until it expires."
)
@click.option("--division", default="", help="For a board of its own.")
@click.pass_obj
def invite_command(office: Office, team: str, uses: int, hours: float, division: str) -> None:
    """Make an invite for a team; it is shown this once."""
    office.say(office.referee.invite("admin", team, uses=uses, hours=hours, division=division))


@admin_command.command("roster")
@click.argument("file", type=click.File(encoding="utf-8"))
@click.pass_obj
def roster_command(office: Office, file: Any) -> None:
    """Invite the teams of a CSV file with the columns team, division and members; prints the invites."""
    import csv
    import sys

    from bughunt_leaderboard.roster import read_roster

    try:
        entries = read_roster(file, office.referee.fresh().rules.team_size)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{file.name} is no CSV in UTF-8: {error}", "export it anew") from None
    writer = csv.writer(sys.stdout)
    writer.writerow(["team", "division", "invite"])
    for one in entries:
        invite = office.referee.invite("admin", one.team, uses=one.members, division=one.division)
        writer.writerow([one.team, one.division, invite])


@admin_command.command("results")
@click.pass_obj
def results_command(office: Office) -> None:
    """The results as CSV, as they are behind a freeze too: rank, team, division, points, each challenge."""
    from bughunt_leaderboard import clock, view

    from bughunt.cli.output import write

    write(view.board_csv(office.referee.fresh(), clock.now()).rstrip("\r\n"))


@admin_command.command("grant")
@click.argument("role", type=click.Choice(["observer", "judge", "admin"]))
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, help="Fewer than the role's; repeat it.")
@click.option("--hours", type=click.FloatRange(0.01), help="Until it expires; else never.")
@click.pass_obj
def grant_command(office: Office, role: str, name: str, scopes: tuple[str, ...], hours: float | None) -> None:
    """Make a token for somebody who does not play; it is shown this once."""
    office.say(office.referee.grant("admin", role, name, scopes, hours))


@admin_command.command("tokens")
@json_option
@click.pass_obj
def tokens_command(office: Office) -> None:
    """All tokens, without what would let one use them."""
    from bughunt.show.tables import table

    found = office.referee.tokens()
    if office.session.json:
        emit("tokens", tokens=found)
        return
    head = ("id", "role", "team", "uses", "state", "name")
    rows = [
        (
            str(t["id"]),
            t["role"],
            str(t["team"] or ""),
            str(t["uses"]),
            "revoked" if t["revoked"] else "",
            t["name"],
        )
        for t in found
    ]
    office.say(table([head, *rows]))


@admin_command.command("revoke")
@click.argument("token", type=int)
@click.pass_obj
def revoke_command(office: Office, token: int) -> None:
    """Make a token invalid at once, by the number that `tokens` shows."""
    office.referee.revoke("admin", token)
    office.say("done")


@admin_command.command("forget")
@click.argument("token", type=int)
@click.option(
    "--confirm", metavar="NAME", required=True, help="The person's name, so that it is the right one."
)
@click.pass_obj
def forget_command(office: Office, token: int, confirm: str) -> None:
    """Delete one person's name and token; what the team sent stays the team's."""
    if confirm not in [one["name"] for one in office.referee.tokens() if one["id"] == token]:
        raise UsageError(f"token {token} is not {confirm}'s", "bughunt admin tokens lists them")
    office.referee.forget("admin", token)
    office.say(f"{confirm} is forgotten")


@admin_command.command("remove")
@click.argument("team", type=int)
@click.option(
    "--confirm", metavar="NAME", required=True, help="The team's name, so that it is the right one."
)
@click.pass_obj
def remove_command(office: Office, team: int, confirm: str) -> None:
    """Delete a team with its people and files; it leaves the board too."""
    found = office.referee.fresh().teams.get(team)
    if found is None or found.name != confirm:
        raise UsageError(f"team {team} is not called {confirm}", "bughunt board lists the teams")
    office.referee.remove_team("admin", team)
    office.say(f"{confirm} is gone")


@admin_command.command("rejudge")
@click.argument("submissions", type=int, nargs=-1)
@click.option("--challenge", help="All submissions to it.")
@click.pass_obj
def rejudge_command(office: Office, submissions: tuple[int, ...], challenge: str | None) -> None:
    """Judge submissions again beside their verdicts; look with compare, then apply or cancel."""
    state = office.referee.fresh()
    chosen = list(submissions) or [o.id for o in state.submissions.values() if o.challenge == challenge]
    number = office.referee.rejudge("admin", chosen)
    office.say(f"rejudging {number}: {len(chosen)} submissions\nbughunt admin compare {number}")


@admin_command.command("compare")
@click.argument("rejudging", type=int)
@json_option
@click.pass_obj
def compare_command(office: Office, rejudging: int) -> None:
    """What applying a rejudging would change."""
    found = office.referee.compare(rejudging)
    if office.session.json:
        emit("compare", **found)
        return
    lines = [f"{found['state']}, {len(found['missing'])} not judged yet"]
    lines += [f"  {c['submission']}: {c['before']} -> {c['after']}" for c in found["changed"]]
    lines += [
        f"  {m['team']}: place {m['rank'][0]} -> {m['rank'][1]}, points {m['points'][0]} -> {m['points'][1]}"
        for m in found["moved"]
    ]
    office.say("\n".join(lines))


@admin_command.command("apply")
@click.argument("rejudging", type=int)
@click.pass_obj
def apply_command(office: Office, rejudging: int) -> None:
    """Let the new verdicts of a rejudging count."""
    office.referee.apply("admin", rejudging)
    office.say("applied")


@admin_command.command("cancel")
@click.argument("rejudging", type=int)
@click.pass_obj
def cancel_command(office: Office, rejudging: int) -> None:
    """Forget a rejudging."""
    office.referee.cancel("admin", rejudging)
    office.say("cancelled")


@admin_command.command("flag")
@click.argument("submission", type=int)
@click.argument("why")
@click.pass_obj
def flag_command(office: Office, submission: int, why: str) -> None:
    """Take a submission off the board until it is cleared."""
    office.referee.flag("admin", submission, why)
    office.say("done")


@admin_command.command("clear")
@click.argument("submission", type=int)
@click.pass_obj
def clear_command(office: Office, submission: int) -> None:
    """Put a flagged submission back."""
    office.referee.clear("admin", submission)
    office.say("done")


@admin_command.command("similar")
@json_option
@click.pass_obj
def similar_command(office: Office) -> None:
    """Submissions that share more than the repair explains, and files in another team's words."""
    from bughunt_leaderboard.suspicion import suspicion

    found = suspicion(office.referee, office.folder)
    if office.session.json:
        emit("similar", challenges=found)
        return
    names = {team.id: team.name for team in office.referee.fresh().teams.values()}
    for one in found:
        office.say(one["challenge"])
        for pair in one["pairs"]:
            first, second = (names[team] for team in pair["teams"])
            numbers = " and ".join(map(str, pair["submissions"]))
            office.say(f"  {first} and {second}: {pair['likeness']:.0%} of submissions {numbers}")
            office.say("\n".join(f"    {line}" for line in pair["lines"]))
        for mark in one["marked"]:
            words = ", ".join(mark["names"])
            office.say(
                f"  {names[mark['team']]}: submission {mark['submission']} has words of "
                f"{names[mark['other']]}: {words}"
            )
    office.say("A person decides: bughunt admin flag, or nothing." if found else "Nothing to look at.")


@admin_command.command("work")
@judges
@click.pass_obj
def work_command(office: Office, /, **where: Any) -> None:
    """Judge what waits, for a server that runs elsewhere, until Ctrl-C."""
    import signal

    from bughunt_leaderboard.pool import Pool

    office.folder.check_version()
    executor, fence = executed(office.folder.path, **where)
    office.say(f"{fence} Ctrl-C ends it, nothing is lost.")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), Pool(executor) as pool:
        pool.ending.wait()


@admin_command.command("audit")
@json_option
@click.pass_obj
def audit_command(office: Office) -> None:
    """The audit log, and whether its chain is whole."""
    entries, broken = office.store.audit_log(), office.store.broken_link()
    if office.session.json:
        emit("audit", entries=entries, broken=broken)
        return
    from bughunt_leaderboard import clock

    for entry in entries:
        office.say(f"{entry['seq']:>5d}  {clock.shown(entry['at'])}  {entry['who']}  {entry['what']}")
    office.say("the chain is whole" if broken is None else f"the chain is broken at entry {broken}")


@admin_command.command("backup")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.pass_obj
def backup_command(office: Office, file: Path) -> None:
    """Write database, key and set into one archive with checksums, while the competition runs."""
    from bughunt_leaderboard.backup import backup

    office.say(f"{backup(office.folder, file)} bytes in {file}")


@admin_command.command("restore")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("target", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--database", metavar="URL", help="An empty PostgreSQL database instead of SQLite in the folder."
)
@click.pass_obj
def restore_command(office: Office, file: Path, target: Path, database: str | None) -> None:
    """Make a competition's folder from an archive."""
    from bughunt_leaderboard.backup import restore

    restore(file, target, database)
    office.say(f"bughunt host --data {target} --set ... goes on from there")
