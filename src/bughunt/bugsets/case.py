"""From a challenge to what the judge needs to know about it."""

from collections.abc import Sequence

from bughunt import references
from bughunt.bugsets.challenge import Challenge
from bughunt.judge.judge import Case
from bughunt.judge.verdict import Curve


def case_of(challenge: Challenge) -> Case:
    """The judge's view of a challenge: reference, hidden tests and measured curves."""
    reference = references.load(challenge.reference)
    sealed, curves = challenge.sealed(), challenge.curves()
    return Case(
        task=reference.task,
        reference_files=reference.files,
        test_path=reference.test_path,
        configuration=challenge.configuration,
        fail_to_pass=tuple(sealed.fail_to_pass),
        pass_to_pass=tuple(sealed.pass_to_pass),
        reference_curves=_runs(curves.seeds, curves.steps, curves.reference, curves.reference_metric),
        broken_curves=_runs(curves.seeds, curves.steps, curves.broken, curves.broken_metric),
        label=sealed.label,
        handed_out=challenge.program(),
        repaired=dict(sealed.repaired),
        bugs=tuple(tuple(tests) for tests in sealed.own_tests),
    )


def _runs(
    seeds: Sequence[int], steps: Sequence[int], runs: Sequence[Sequence[float]], metrics: Sequence[float]
) -> list[Curve]:
    """Stored curves as the judge reads them: of the metric only the last value was kept."""
    return [
        Curve(seed, steps, values, (metric,))
        for seed, values, metric in zip(seeds, runs, metrics, strict=False)
    ]
