"""Hostile files lose, in every way of fencing that competitions may use, and honest files do not notice."""

import tomllib
from collections.abc import Iterator

import pytest
from arena import HERE, Arena, Attack, attacks, ways

pytestmark = [pytest.mark.attack, pytest.mark.slow]


@pytest.fixture(scope="module", params=ways())
def arena(request: pytest.FixtureRequest) -> Iterator[Arena]:
    """Honest programs are judged before the first attack and after the last."""
    with Arena(request.param) as arena:
        assert arena.honest_programs_are_judged_rightly()
        yield arena
        assert arena.honest_programs_are_judged_rightly()


@pytest.mark.parametrize("attack", attacks(), ids=lambda attack: attack.name)
def test_an_attack_wins_nothing(arena: Arena, attack: Attack) -> None:
    assert arena.won(attack) == []


KINDS = tomllib.loads((HERE / "classes.toml").read_text(encoding="utf-8"))
CASES = {str(path.relative_to(HERE / "cases").with_suffix("")) for path in (HERE / "cases").rglob("*.py")}


def test_every_kind_of_attack_is_tried_or_said_to_need_more() -> None:
    assert list(KINDS) == [f"P{number:02}" for number in range(1, 67)]
    elsewhere = {name: kind["where"] for name, kind in KINDS.items() if "where" in kind}
    servers = {f"P{number}" for number in (46, 47, *range(55, 66))}
    assert {name for name, where in elsewhere.items() if where == "server"} == servers
    assert {name for name, where in elsewhere.items() if where == "gpu"} == {"P31", "P49", "P50", "P51"}
    assert all(kind.get("cases") for name, kind in KINDS.items() if name not in elsewhere)


def test_every_case_is_of_a_kind() -> None:
    assert {case for kind in KINDS.values() for case in kind.get("cases", ())} == CASES
    assert len(CASES) >= 100
