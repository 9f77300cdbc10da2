"""Judges on a Ray cluster: a real one, started here, that may die while the queue keeps everything."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from bughunt_leaderboard.bundle import variant
from bughunt_leaderboard.events import Kind
from bughunt_leaderboard.folder import Folder
from bughunt_leaderboard.host import Plan, prepare
from bughunt_leaderboard.people import Person
from bughunt_leaderboard.pool import Pool, ray
from bughunt_leaderboard.referee import Referee
from bughunt_leaderboard.rules import Rules
from bughunt_leaderboard.store import Store
from processes import wait_until

from bughunt.bugsets import library
from bughunt.judge.sandbox.fence import Tier

CHALLENGE = "bh-6016bb"
SECONDS = 240.0


@pytest.fixture
def competition(tmp_path: Path) -> Iterator[tuple[Folder, Referee]]:
    plan = Plan(
        data=tmp_path / "cup", bugset=library.find_set("starter"), name="Cup", minutes=60,
        teams={"Red": ""}, rules=Rules(running=2),
    )  # fmt: skip
    folder, invites = prepare(plan)
    store = Store(folder.database)
    referee = Referee(store)
    referee.join(invites["Red"], "ada")
    yield folder, referee
    store.close()


def wait(referee: Referee, number: int) -> str:
    wait_until(lambda: referee.fresh().submissions[number].outcome, SECONDS)
    return referee.fresh().submissions[number].outcome


def leased(referee: Referee, number: int) -> None:
    assert wait_until(lambda: referee.queue.place(number)[0] != "waiting", SECONDS)


def test_who_does_not_ask_for_ray_never_loads_it() -> None:
    modules = "host, worker, pool, app"
    program = f"import sys; from bughunt_leaderboard import {modules}; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
def test_a_cluster_judges_and_when_it_is_killed_the_job_is_judged_by_the_next(
    competition: tuple[Folder, Referee],
) -> None:
    folder, referee = competition
    program = variant(library.find_challenge(CHALLENGE), folder, 1)
    right = {"train.py": program["train.py"].replace(".argmax(1)", ".argmin(1)")}
    assert right != program
    person = Person(0, "captain", 1)
    first = referee.submit(person, CHALLENGE, right, "right")
    with Pool(ray(folder.path, 1, Tier.S0)) as pool:
        assert wait(referee, first) == "SOLVED"
        second = referee.submit(person, CHALLENGE, program, "wrong")
        leased(referee, second)
        os.kill(pool.workers[0].pid, signal.SIGKILL)
        assert wait(referee, second) in ("UNFIXED", "PARTIAL")
    verdicts = [event.payload["submission"] for event in referee.store.events() if event.kind is Kind.VERDICT]
    assert verdicts == [first, second]
