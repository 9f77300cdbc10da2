"""Hosting a competition: the one place where bughunt starts the server."""

from pathlib import Path
from typing import Any

import click

from bughunt.cli.session import Session
from bughunt.errors import MachineError, UsageError

DATA = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("competition"),
    show_default=True,
    help="The competition's folder.",
)
EXTRA = "python -m pip install 'bughunt-ml[server]'"
JUDGES = (
    click.option("--workers", type=click.IntRange(0), default=2, show_default=True, help="How many judges."),
    click.option(
        "--tier", type=click.Choice(["S0", "S1", "S2"]), default="S2", show_default=True,
        help="The least that programs are fenced in by.",
    ),
    click.option(
        "--executor", type=click.Choice(["local", "ray"]), default="local", show_default=True,
        help="Judges on this machine, or on a Ray cluster.",
    ),
    click.option("--cluster", metavar="ADDRESS", default="", help="Of the Ray cluster; else one here."),
    click.option(
        "--gpus", type=click.FloatRange(0.0), default=0.0, show_default=True,
        help="Of each judge on the cluster; with one, programs are fenced in by S0 only.",
    ),
)  # fmt: skip


def judges(command: Any) -> Any:
    """The options that say who judges, and where."""
    for option in reversed(JUDGES):
        command = option(command)
    return command


@click.command("host")
@click.option("--set", "set_name", required=True, help="The bug set that is played.")
@DATA
@click.option("--database", metavar="URL", help="A PostgreSQL database instead of SQLite in the folder.")
@click.option("--name", default="bughunt", show_default=True, help="The competition's name.")
@click.option(
    "--team", "teams", multiple=True, metavar="NAME[:DIVISION]", help="A team to invite; repeat it."
)
@click.option("--minutes", type=click.IntRange(1), default=60, show_default=True, help="Of the first round.")
@click.option("--rule", "rules", multiple=True, metavar="NAME=VALUE", help="Another rule; repeat it.")
@click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="NAME=NUMBER",
    help="Another limit on requests a minute; repeat it.",
)
@click.option("--address", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="Of the server.")
@click.option("--patterns", type=click.IntRange(0, 64), default=0, show_default=True,
              help="Ways to write each program, proved first; teams get their texts from them.")  # fmt: skip
@judges
@click.option("--rehearse", type=click.IntRange(1), metavar="N",
              help="Let N simulated teams play the set here instead, and say what would break.")  # fmt: skip
@click.pass_obj
def host_command(
    session: Session, /, set_name: str, data: Path, database: str | None, name: str, teams: tuple[str, ...],
    minutes: int, rules: tuple[str, ...], limits: tuple[str, ...], address: str, port: int, patterns: int,
    rehearse: int | None, **where: Any,
) -> None:  # fmt: skip
    """Host a competition: print the board's address and the invites, and serve until Ctrl-C."""
    from bughunt.bugsets import library

    host = server()
    plan = host.Plan(
        data=data, bugset=library.find_set(set_name), name=name, minutes=minutes, database=database,
        teams=dict(split(team) for team in teams or ("Red", "Blue")), rules=loaded(host.Rules, rules, "rule"),
        patterns=patterns,
    )  # fmt: skip
    allowed = loaded(host.Limits, limits, "limit")
    if rehearse:
        _rehearsed(session, plan, rehearse, **where)
        return
    executor, fence = executed(data, **where)
    folder, invites = host.prepare(plan, session.remark)
    here = f"http://{address}:{port}"
    session.say(f"{name} on {here}/   board, big screen on {here}/big\n")
    for team, invite in invites.items():
        session.say(f"  {team:<20s} bughunt join {here} {invite}")
    if invites:
        session.say("\nEach invite is shown this once; bughunt admin invite makes more.")
    session.say(f"{fence} Ctrl-C ends the server, nothing is lost.")
    host.serve(folder, address, port, executor, allowed)


def executed(
    data: Path, workers: int, tier: str, executor: str, cluster: str, gpus: float
) -> tuple[list[list[str]], str]:
    """The processes that judge, and a sentence on the fence; MachineError where it is too low here."""
    from bughunt.judge.sandbox.fence import Tier

    host = server()
    from bughunt_leaderboard import pool

    if executor == "ray":
        if gpus and tier != "S0":
            raise UsageError("a judge with a GPU fences programs in by S0", "--tier S0, for people you trust")
        return pool.ray(data, workers, Tier[tier], cluster, gpus), "Programs are judged on the cluster."
    if cluster or gpus:
        raise UsageError("--cluster and --gpus are for a Ray cluster", "--executor ray")
    if not workers:
        return [], "No judge runs here: bughunt admin work starts some elsewhere."
    found = host.check_tier(Tier[tier])
    return pool.local(data, workers, Tier[tier]), f"Programs are fenced in by {found.name}."


def _rehearsed(session: Session, plan: Any, teams: int, **where: Any) -> None:
    """Play, with the judges that the host would have."""
    from bughunt_leaderboard.rehearsal import rehearse

    from bughunt.cli.output import emit

    if not where["workers"]:
        raise UsageError("a rehearsal needs judges", "--workers 2")
    words = [word for name, value in where.items() if value for word in (f"--{name}", str(value))]
    session.remark(f"{teams} teams play {plan.bugset.name}; this takes a while.")
    report = rehearse(plan, teams, words, where["workers"])
    if session.json:
        emit("rehearsal", **report.dump())
    else:
        session.say("\n".join(report.lines()))


def server() -> Any:
    """The server's package, or what to install for it."""
    try:
        from bughunt_leaderboard import host
    except ModuleNotFoundError as error:
        raise MachineError(f"hosting needs {error.name}", EXTRA) from None
    return host


def split(team: str) -> tuple[str, str]:
    name, _, division = team.partition(":")
    return name, division


def loaded(kind: Any, words: tuple[str, ...], option: str) -> Any:
    """What `NAME=VALUE` options say; UsageError for a name that there is not."""
    try:
        return kind.load(given(words, option))
    except ValueError as error:
        raise UsageError(str(error), f"see --{option} in docs/host.md") from None


def given(words: tuple[str, ...], option: str = "rule") -> dict[str, Any]:
    """`penalty=5` as a name and its value; UsageError for what is none."""
    import json

    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        try:
            found[name] = json.loads(value)
        except ValueError:
            raise UsageError(f"--{option} {word} is not NAME=VALUE", f"--{option} NAME=5") from None
        if not equals:
            raise UsageError(f"--{option} {word} has no value", f"--{option} NAME=5")
    return found
