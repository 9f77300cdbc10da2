"""One command hosts a competition: folder, tables, first round, workers, server."""

import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from bughunt.bugsets.challenge import BugSet
from bughunt.errors import MachineError, UsageError
from bughunt.judge.sandbox.fence import Tier
from bughunt.judge.sandbox.tier import survey
from bughunt_leaderboard import clock
from bughunt_leaderboard.app import make_app
from bughunt_leaderboard.folder import Folder, write_text
from bughunt_leaderboard.limits import Limits
from bughunt_leaderboard.logs import log_to
from bughunt_leaderboard.migrate import migrate
from bughunt_leaderboard.patterns import prove
from bughunt_leaderboard.pool import Pool, tailor
from bughunt_leaderboard.referee import Referee
from bughunt_leaderboard.rules import MINUTE, Rules
from bughunt_leaderboard.store import Store, reachable

HOST_TOKEN = "host-token"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the host asks for; all but the folder only matters the first time."""

    data: Path
    bugset: BugSet
    name: str
    minutes: int
    teams: Mapping[str, str]  # name -> division
    rules: Rules
    database: str | None = None
    patterns: int = 0  # ways to write each program, from which the teams' texts are cut


def prepare(plan: Plan, tell: Callable[[str], None] = lambda _said: None) -> tuple[Folder, dict[str, str]]:
    """The competition's folder, and invites for the teams where it is new; `tell` hears of the patterns."""
    folder = Folder.make(plan.data, plan.bugset.folder, plan.database)
    folder.stamp()
    store = Store(folder.database)
    try:
        reachable(store)
        migrate(store)
        if store.last():
            return folder, {}
        if plan.patterns:
            prove(folder, plan.patterns, tell)
        return folder, _begin(Referee(store), folder, plan)
    finally:
        store.close()


def _begin(referee: Referee, folder: Folder, plan: Plan) -> dict[str, str]:
    about = {one.id: {"title": one.title, "level": one.level} for one in folder.challenges().values()}
    token = referee.create(plan.name, plan.bugset.name, about, plan.rules)
    write_text(folder.path / HOST_TOKEN, token + "\n")
    start = clock.now()
    referee.set_round("host", "Round 1", start, start + plan.minutes * MINUTE, list(about))
    size = plan.rules.team_size
    return {
        name: referee.invite("host", name, uses=size, division=division)
        for name, division in plan.teams.items()
    }


def check_tier(least: Tier) -> Tier:
    """The tier that this machine has; MachineError where it is weaker than the competition allows."""
    found = survey()
    if found.tier < least:
        why = "; ".join(found.lacking.values())
        raise MachineError(
            f"programs can be fenced in to {found.tier.name} here, {least.name} is asked for: {why}",
            "see docs/security.md, or lower it with --tier for people whom you trust",
        )
    return found.tier


def serve(
    folder: Folder, address: str, port: int, executor: Sequence[Sequence[str]], limits: Limits | None = None
) -> None:
    """Run until told to stop; workers finish what they judge."""
    log_to(folder.path)
    try:
        listening = socket.create_server((address, port))
    except OSError as error:
        raise UsageError(f"port {port} cannot be used: {error.strerror}", "choose another --port") from None
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # the last packet waits for nothing
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the pool ends as by Ctrl-C
    config = uvicorn.Config(make_app(folder, limits), log_level="warning", timeout_graceful_shutdown=3)
    with Pool([*executor, *tailor(folder.path)]), listening:
        uvicorn.Server(config).run(sockets=[listening])
