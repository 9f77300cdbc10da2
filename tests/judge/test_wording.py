"""A failed check says what was expected and what came."""

import pytest

from bughunt.judge.wording import in_words

SAID = {
    "assert 0.8086947846205786 > 0.95": "came 0.8087, expected > 0.95",
    "assert 1259.6062 == 1055.2493528 ± 10.5525; comparison failed": "came 1260, expected 1055 ± 10.55",
    "assert np.float64(3.5) < 2": "came 3.5, expected < 2",
    "assert 7 in [1, 2]": "came 7, expected one of [1, 2]",
    "assert False; +  where False = <function allclose at 0x7f0>(array([1.5]), array([2.5]))": (
        "allclose does not hold for array([1.5]), array([2.5])"
    ),
    "assert False; +  where False = <function allclose at 0x>(array([[ 1.5 , -2. ],\\n    [0.5, 3. ]]), 1)": (
        "allclose does not hold for array([[1.5, -2.], [0.5, 3.]]), 1"
    ),
    "assert np.False_; +  where np.False_ = <built-in method all of numpy.ndarray object at 0x1>()": (
        "it does not hold"
    ),
    "the loss is not a number": "the loss is not a number",
}


@pytest.mark.parametrize("message", SAID)
def test_an_assertion_is_told_without_pytests_own_words(message: str) -> None:
    assert in_words(message) == SAID[message]


def test_long_values_are_cut() -> None:
    assert len(in_words(f"assert [{'1, ' * 200}] == [{'2, ' * 200}]")) < 200
