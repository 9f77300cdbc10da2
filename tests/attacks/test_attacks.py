"""Hostile files lose, in every way of fencing that competitions may use, and honest files do not notice."""

from collections.abc import Iterator

import pytest
from arena import Arena, Attack, attacks, ways

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
