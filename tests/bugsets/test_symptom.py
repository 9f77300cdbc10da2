import math

import pytest

from bughunt import references
from bughunt.bugsets import giveaway, symptom

HEALTHY = [[2.3, 1.0, 0.50], [2.3, 1.1, 0.52], [2.3, 0.9, 0.48]]


def test_a_curve_like_the_reference_is_silent():
    assert symptom.label(HEALTHY, [[2.3, 1.0, 0.5]], "log") == "silent"


def test_a_worse_curve_is_visible():
    assert symptom.label(HEALTHY, [[2.3, 2.3, 2.3]], "log") == "visible"


def test_a_better_curve_is_deceptive():
    assert symptom.label(HEALTHY, [[2.3, 0.1, 0.01]], "log") == "deceptive"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_curve_that_is_not_finite_is_visible(value):
    assert symptom.label(HEALTHY, [[2.3, 0.9, value]], "log") == "visible"


def test_a_title_says_late_where_the_end_is_the_same():
    late = [[2.3, 2.3, 0.5001]]
    told = symptom.title(references.load("trainer-loop").task, "visible", HEALTHY, late, ["test_x"])
    assert told == "Training loop: held-out loss takes longer than is normal to come to 0.500"


def test_the_effect_counts_seed_deviations():
    """By hand: areas log(1) and log(4), so a sample deviation of log(4)/sqrt(2) around log(2)."""
    reference = [[0.0, 1.0], [0.0, 4.0]]
    expected = (math.log(16) - math.log(2)) / (math.log(4) / math.sqrt(2))
    assert symptom.effect(reference, [[0.0, 16.0]], "log") == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.35123, "0.351"), (1.6, "1.60"), (23.456, "23.5"), (199.7, "200"), (0.0, "0.00"), (3e-7, "3.00e-07")],
)
def test_numbers_have_three_digits(value, text):
    assert symptom.number(value) == text


def test_a_test_name_reads_as_a_sentence():
    assert symptom.sentence("test_a_row_keeps_its_label[adam]") == "a row keeps its label"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("import math\n", {"math"}),
        ("import math\nprint(math.pi)\n", set()),
        ("from torch.nn import functional as F\n", {"F"}),
        ("def f(x):\n    y = x\n    return x\n", {"y"}),
        ("def f(x):\n    y = x\n    def g():\n        return y\n    return g\n", set()),
        ("def f(x):\n    a, b = x\n    return a\n", set()),
    ],
)
def test_unused_names_are_those_that_a_linter_reports(text, names):
    assert set(giveaway.unused(text)) == names


def test_only_what_the_mutation_left_unused_gives_it_away():
    reference = {"train.py": "import os\nimport math\nprint(math.pi)\n", "model.py": "import sys\n"}
    assert giveaway.adds_a_finding(reference, {"train.py": "import os\nimport math\nprint(3)\n"})
    assert not giveaway.adds_a_finding(reference, {"train.py": "import os\nimport math\nprint(math.e)\n"})
    assert giveaway.adds_a_finding(reference, {**reference, "model.py": "import sys\nimport os\n"})
