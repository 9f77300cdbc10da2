"""Each generation of a submission gets one verdict, whoever dies."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sql
from bughunt_leaderboard.events import Kind
from bughunt_leaderboard.migrate import migrate
from bughunt_leaderboard.people import Person
from bughunt_leaderboard.queue import TRIES, Queue
from bughunt_leaderboard.referee import Referee
from bughunt_leaderboard.schema import JOBS, VERDICTS
from bughunt_leaderboard.store import Store
from teams import HOUR, join

SAID = {"score": 100.0, "changed": 1}


def send(referee: Referee, person: Person, key: str, challenge: str = "bh-000001") -> int:
    return referee.submit(person, challenge, {"train.py": f"# {key}\n"}, key)


def test_a_claimed_job_is_nobody_elses_until_its_lease_runs_out(
    referee: Referee, put_forward: Callable[[int], None]
) -> None:
    send(referee, join(referee, "Red"), "one")
    queue = Queue(referee.store, lease=HOUR)
    first = queue.claim("a")
    assert first is not None
    assert queue.claim("b") is None
    put_forward(HOUR)
    second = queue.claim("b")
    assert second is not None
    assert (second.job, second.fence) == (first.job, first.fence + 1)


def test_a_verdict_under_an_old_fence_is_refused_and_audited(
    referee: Referee, put_forward: Callable[[int], None]
) -> None:
    send(referee, join(referee, "Red"), "one")
    queue = Queue(referee.store, lease=HOUR)
    stale = queue.claim("slow")
    assert stale is not None
    put_forward(HOUR)
    fresh = queue.claim("quick")
    assert fresh is not None
    assert not queue.renew(stale)
    assert not queue.finish(stale, "SOLVED", SAID)
    assert queue.finish(fresh, "UNFIXED", SAID)
    assert not queue.finish(fresh, "SOLVED", SAID)
    verdicts = [event for event in referee.store.events() if event.kind is Kind.VERDICT]
    assert [event.payload["outcome"] for event in verdicts] == ["UNFIXED"]
    assert sum("stale" in entry["what"] for entry in referee.store.audit_log()) == 2
    assert referee.store.broken_link() is None


def test_a_renewed_lease_is_kept(referee: Referee, put_forward: Callable[[int], None]) -> None:
    send(referee, join(referee, "Red"), "one")
    queue = Queue(referee.store, lease=HOUR)
    lease = queue.claim("a")
    assert lease is not None
    for _ in range(4):
        put_forward(HOUR // 3)
        assert queue.renew(lease, "step 3")
    assert queue.claim("b") is None
    assert queue.place(lease.submission) == ("leased", 0, "step 3")


def test_a_team_with_a_job_running_waits_behind_one_without(referee: Referee) -> None:
    red, blue = join(referee, "Red"), join(referee, "Blue")
    sent = [send(referee, red, "r1"), send(referee, red, "r2"), send(referee, blue, "b1")]
    queue = Queue(referee.store)
    claimed = [queue.claim("w") for _ in range(3)]
    assert [lease and lease.submission for lease in claimed] == [sent[0], sent[2], None]


def test_our_own_failure_goes_back_and_never_counts(referee: Referee) -> None:
    number = send(referee, join(referee, "Red"), "one")
    queue = Queue(referee.store)
    for _ in range(TRIES):
        lease = queue.claim("w")
        assert lease is not None
        queue.give_back(lease, "the disk is full")
    assert queue.claim("w") is None
    assert referee.fresh().submissions[number].outcome == "INFRA"
    assert referee.fresh().standings()[0].cells["bh-000001"].tries == 0


def test_what_is_renewed_while_one_waits_never_starves_the_others(referee: Referee) -> None:
    people = [join(referee, f"Team {n}") for n in range(4)]
    for person in people:
        send(referee, person, "one")
    queue = Queue(referee.store, lease=10_000)
    assert len({queue.claim(str(n)).team for n in range(4)}) == 4  # type: ignore[union-attr]


@pytest.mark.slow
def test_many_workers_that_die_at_random_give_every_job_one_verdict(referee: Referee, database: str) -> None:
    people = [join(referee, f"Team {n}") for n in range(6)]
    expected = {send(referee, person, f"{n}") for n in range(15) for person in people}
    done: list[tuple[int, bool]] = []

    def work(name: int) -> None:
        store = Store(database)
        queue, turn = Queue(store, lease=400), 0
        while queue.length():
            lease = queue.claim(f"w{name}")
            turn += 1
            if lease is None:
                time.sleep(0.02)
            elif (turn + name) % 7 == 0:
                continue  # dies with the job in its hands
            elif (turn + name) % 11 == 0:
                time.sleep(0.5)  # overruns its lease
                done.append((lease.submission, queue.finish(lease, "SOLVED", SAID)))
            else:
                done.append((lease.submission, queue.finish(lease, "UNFIXED", SAID)))
        store.close()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counted = Counter(submission for submission, taken in done if taken)
    assert counted == Counter(expected)
    with referee.store.reading() as connection:
        given = connection.execute(sql.select(VERDICTS.c.job)).scalars().all()
        states = connection.execute(sql.select(JOBS.c.state)).scalars().all()
    assert len(given) == len(expected)
    assert set(states) == {"done"}
    events = referee.store.events()
    assert [event.seq for event in events] == list(range(1, len(events) + 1))


def test_two_who_start_at_once_migrate_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'b.db'}"
    stores = [Store(url), Store(url)]
    threads = [threading.Thread(target=migrate, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stores[0].last() == 0
