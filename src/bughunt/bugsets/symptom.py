"""What a player is told: the symptom in measured numbers, never the cause."""

import math
from collections.abc import Sequence
from statistics import fmean, median, stdev

from bughunt.task import Task

Runs = Sequence[Sequence[float]]


def effect(reference: Runs, broken: Runs, scale: str) -> float:
    """How far the broken curve's area lies from the reference's, in seed standard deviations.

    Positive is worse. The area is the mean over all but the first probe, in the task's scale; the standard
    deviation has the floor 0.005 of the judge's curve rule.
    """
    areas = [area(run, scale) for run in reference]
    spread = max(stdev(areas) if len(areas) > 1 else 0.0, 0.005)
    return (fmean(area(run, scale) for run in broken) - fmean(areas)) / spread


def area(run: Sequence[float], scale: str) -> float:
    return fmean(_scaled(value, scale) for value in run[1:])


def _scaled(value: float, scale: str) -> float:
    if not math.isfinite(value):
        value = 1e3
    return math.log(min(max(value, 1e-4), 1e3)) if scale == "log" else min(max(value, -1e3), 1e3)


def label(reference: Runs, broken: Runs, scale: str) -> str:
    """`visible`, `deceptive` (looks better than is right) or `silent`.

    Five seed standard deviations of the area decide, or ends that all lie outside the reference's by more
    than the reference's own range.
    """
    if not broken:  # nothing trains
        return "silent"
    if not all(math.isfinite(value) for run in broken for value in run):
        return "visible"
    z = effect(reference, broken, scale)
    ends = [_scaled(run[-1], scale) for run in reference]
    sick = [_scaled(run[-1], scale) for run in broken]
    margin = max(max(ends) - min(ends), 0.05)
    if z >= 5 or min(sick) > max(ends) + margin:
        return "visible"
    return "deceptive" if z <= -5 or max(sick) < min(ends) - margin else "silent"


def sentence(test: str) -> str:
    """`test_a_row_keeps_its_label` as words."""
    return test.rsplit("::", 1)[-1].split("[")[0].removeprefix("test_").replace("_", " ")


def title(task: Task, kind: str, reference: Runs, broken: Runs, failing: Sequence[str]) -> str:
    """A symptom in one line."""
    name = task.curve_name
    if not task.trains:
        return f"{task.title}: a check fails ({sentence(failing[0])})"
    if kind == "silent":
        return f"{task.title}: the curve looks right, a check does not ({sentence(failing[0])})"
    final, normal = median(run[-1] for run in broken), fmean(run[-1] for run in reference)
    if not math.isfinite(final):
        return f"{task.title}: {name} is not a number any more"
    if kind == "deceptive":
        return f"{task.title}: {name} {number(final)} is better than it has any right to be"
    start, best = fmean(run[0] for run in broken), min(min(run) for run in broken)
    drop = fmean(run[0] for run in reference) - normal
    if start - best < 0.1 * drop:
        return f"{task.title}: {name} hangs near {number(final)}"
    if final - best > 0.25 * drop:
        return f"{task.title}: {name} falls, then climbs to {number(final)}"
    if number(final) == number(normal):
        return f"{task.title}: {name} takes longer than is normal to come to {number(normal)}"
    return f"{task.title}: {name} ends at {number(final)} where {number(normal)} is normal"


def brief(
    task: Task,
    kind: str,
    reference: Runs,
    broken: Runs,
    metrics: tuple[Sequence[float], Sequence[float]],
    failing: Sequence[str],
    bugs: int = 1,
) -> str:
    """The brief in Markdown: report, contract, what this code does. Every number was measured."""
    if not task.trains:
        return _brief_without_training(failing) + _count(bugs)
    healthy, sick = metrics
    low, high = min(run[-1] for run in reference), max(run[-1] for run in reference)
    final = median(run[-1] for run in broken)
    lines = [
        f"**Report.** {_report(task, kind, failing)}",
        "",
        f"**Contract.** A healthy run ends with {task.curve_name} {span(low, high)} and "
        f"{task.metric_name} {span(min(healthy), max(healthy))}"
        + (f"; {task.curve_name} below {number(task.floor)} is impossible." if task.floor else "."),
        "",
        f"**This code.** {task.curve_name} {number(final)}, {task.metric_name} {number(median(sick))}.",
    ]
    return "\n".join(lines) + "\n" + _count(bugs)


def _count(bugs: int) -> str:
    """How many bugs there are, where it is not one."""
    if bugs == 1:
        return ""
    return (
        f"\n**Bugs.** There are {bugs} of them, in different places; a repair of one alone does not pass.\n"
    )


def _brief_without_training(failing: Sequence[str]) -> str:
    checks = "; ".join(f'"{sentence(name)}"' for name in failing[:2])
    return (
        "**Report.** Since the last refactoring a routine check fails: "
        f"{checks}. No exception is raised; somebody downstream found out.\n\n"
        "**Contract.** Every function of the file does what its first line says.\n"
    )


def _report(task: Task, kind: str, failing: Sequence[str]) -> str:
    if kind == "silent":
        return (
            "Training looks as it always did and nobody would have noticed, but a routine check fails: "
            f'"{sentence(failing[0])}". No exception, no NaN. Find out why.'
        )
    if kind == "deceptive":
        return (
            "Since the last refactoring the numbers are better than ever. Nobody can say why, and in use "
            "the model does not keep the promise."
        )
    return (
        f"Since the last refactoring {task.curve_name} is not what it was. No exception is raised; the data "
        "did not change."
    )


def span(low: float, high: float) -> str:
    """A range, or one number where three digits do not tell its ends apart."""
    ends = number(low), number(high)
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def number(value: float) -> str:
    """Three significant digits, without exponents for everyday sizes."""
    if not math.isfinite(value):
        return "NaN"
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 2
        return f"{value:.{min(digits, 5)}f}"
    return f"{value:.2e}"
