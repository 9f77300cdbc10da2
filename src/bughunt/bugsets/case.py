"""From a challenge to what the judge needs to know about it."""

from bughunt import references
from bughunt.bugsets.challenge import Challenge
from bughunt.judge.judge import Case


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
        reference_curves=curves.reference,
        broken_curves=curves.broken,
        label=sealed.label,
    )
