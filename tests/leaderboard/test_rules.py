"""What a solution is worth, counted by hand."""

import math

import pytest
from bughunt_leaderboard.rules import Rules


def test_the_first_solver_alone_gets_the_whole_value() -> None:
    assert Rules(base=100).value(3, 1) == 300


def test_a_value_falls_towards_its_floor_and_never_below() -> None:
    rules = Rules(base=100, floor=0.4, decay=5)
    values = [rules.value(1, n) for n in range(1, 200)]
    assert values == sorted(values, reverse=True)
    assert values[-1] == 40


def test_after_as_many_teams_as_the_decay_a_third_of_the_falling_part_is_left() -> None:
    assert Rules(base=1000, floor=0.5, decay=10).value(1, 11) == round(500 + 500 / math.e)


def test_the_first_three_get_five_three_and_one_percent_more() -> None:
    assert [Rules(base=200).bonus(1, place) for place in range(4)] == [10, 6, 2, 0]


def test_rules_survive_being_written_down() -> None:
    rules = Rules(base=70, penalty=5, first=(0.1,))
    assert Rules.load(rules.dump()) == rules


def test_a_rule_that_does_not_exist_is_named() -> None:
    with pytest.raises(ValueError, match="no rule is called bonus"):
        Rules.load({"bonus": 3})
