"""Acts that come at the same moment share a transaction, and one that fails spoils it for no other."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import sqlalchemy as sql
from bughunt_leaderboard.events import Kind
from bughunt_leaderboard.refusals import TooManyError
from bughunt_leaderboard.store import Store
from bughunt_leaderboard.together import Together
from sqlalchemy.engine import Connection

ACTS = 40


class Counted:
    """Transactions of a store, the first of which waits until all acts have gathered."""

    def __init__(self, store: Store) -> None:
        self.store, self.count, self.open = store, 0, threading.Event()

    @contextmanager
    def __call__(self) -> Iterator[Connection]:
        self.count += 1
        self.open.wait(20)
        with self.store.writing() as connection:
            yield connection


def at_once(store: Store, acts: list[Callable[[Connection], int]]) -> tuple[list[int | Exception], int]:
    """What becomes of acts that come at the same moment, and how many transactions they took."""
    counted = Counted(store)
    together = Together(counted)

    def run(act: Callable[[Connection], int]) -> int | Exception:
        try:
            return together.run(act)
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(acts)) as pool:
        running = [pool.submit(run, act) for act in acts]
        threading.Timer(0.5, counted.open.set).start()
        return [one.result(60) for one in running], counted.count


def write(store: Store, number: int) -> Callable[[Connection], int]:
    return lambda connection: store.append(connection, Kind.MEMBER, team=number, member="ada").seq


def refuse(_connection: Connection) -> int:
    raise TooManyError("enough", "")


def fail(connection: Connection) -> int:
    connection.execute(sql.text("SELECT nothing FROM nowhere"))
    return 0


def test_many_acts_take_few_transactions_and_each_is_kept(store: Store) -> None:
    results, transactions = at_once(store, [write(store, n) for n in range(ACTS)])
    assert sorted(map(str, results)) == sorted(str(n) for n in range(1, ACTS + 1))
    assert {event.payload["team"] for event in store.events()} == set(range(ACTS))
    assert transactions <= ACTS // 4


def test_a_refusal_is_the_refused_ones_alone(store: Store) -> None:
    results, _ = at_once(store, [write(store, 1), refuse, write(store, 2)])
    assert isinstance(results[1], TooManyError)
    assert {event.payload["team"] for event in store.events()} == {1, 2}


def test_what_fails_in_the_database_fails_alone(store: Store) -> None:
    results, _ = at_once(store, [write(store, 1), fail, write(store, 2), write(store, 3)])
    assert isinstance(results[1], sql.exc.DBAPIError)
    assert [event.seq for event in store.events()] == [1, 2, 3]
    assert {event.payload["team"] for event in store.events()} == {1, 2, 3}


def test_nobody_is_answered_before_the_commit(store: Store) -> None:
    counted = Counted(store)
    answered = threading.Event()

    def run() -> None:
        Together(counted).run(write(store, 1))
        answered.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert not answered.wait(0.2)
    counted.open.set()
    thread.join(20)
    assert answered.is_set()
    assert len(store.events()) == 1


@pytest.mark.parametrize("count", [1, 200])
def test_one_after_another_needs_no_company(store: Store, count: int) -> None:
    together = Together(store.writing)
    assert [together.run(write(store, n)) for n in range(count)] == list(range(1, count + 1))
