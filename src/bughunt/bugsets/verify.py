"""Re-proving a bug set: each challenge's promises, from its files alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bughunt_mutator import Edit, Mutant

from bughunt import references
from bughunt.bugsets import giveaway, proof, symptom, write
from bughunt.bugsets.case import case_of
from bughunt.bugsets.challenge import BugSet, Challenge
from bughunt.bugsets.combine import recall
from bughunt.bugsets.sealed import Sealed
from bughunt.errors import BughuntError
from bughunt.judge.case import Case
from bughunt.judge.judge import Judge
from bughunt.judge.verdict import Outcome, Verdict

UNSOLVED = (Outcome.UNFIXED, Outcome.PARTIAL, Outcome.WORKAROUND, Outcome.REGRESSED)


@dataclass(frozen=True)
class Report:
    """What verification found of one challenge; `ok` is False where a promise is not kept."""

    id: str
    ok: bool
    label: str
    broken: str
    repaired: str
    reasons: Sequence[str]


def verify(
    bugset: BugSet,
    sample: int | None = None,
    quick: bool = False,
    on_event: Callable[[str], None] = lambda _: None,
) -> list[Report]:
    """Both verdicts for each challenge (or every n-th for a sample of that size), and what gives it away.

    `quick` judges on one hidden seed; otherwise on three, and proves the disguise again, and that no test
    fails the repaired program on any hidden seed.
    """
    order = list(bugset.order)
    if sample is not None and sample < len(order):
        order = [order[index * len(order) // sample] for index in range(sample)]
    reports = []
    with Judge() as judge:
        for id_ in order:
            reports.append(_report(judge, bugset, id_, quick))
            on_event(f"{id_} {'ok' if reports[-1].ok else '; '.join(reports[-1].reasons)}")
    return reports


def _report(judge: Judge, bugset: BugSet, id_: str, quick: bool) -> Report:
    try:
        challenge = Challenge.load(bugset.folder / id_)
        sealed, case = challenge.sealed(), case_of(challenge)
        seeds = tuple(sealed.seeds)[: 1 if quick else 3]
        broken = judge.judge(challenge.program(), case, seeds)
        repaired = judge.judge(dict(sealed.repaired), case, seeds)
        reasons = _reasons(challenge, broken, repaired)
        reasons += _partial(judge, challenge, sealed, seeds)
        if not quick:
            reasons += disguise_faults(judge, challenge, sealed)
            reasons += unlucky(judge, dict(sealed.repaired), case, sealed.seeds[1:])  # judged on the first
    except BughuntError as error:
        return Report(id_, False, "", "", "", [error.message])
    return Report(id_, not reasons, sealed.label, broken.outcome, repaired.outcome, reasons)


def _reasons(challenge: Challenge, broken: Verdict, repaired: Verdict) -> list[str]:
    sealed, curves = challenge.sealed(), challenge.curves()
    program, mended = challenge.program(), dict(sealed.repaired)
    failed = {test.name for test in broken.tests if not test.passed}
    scale = case_of(challenge).task.scale
    promises = {
        f"the broken program is {broken.outcome}": broken.outcome in UNSOLVED,
        f"the repaired program is {repaired.outcome} ({repaired.detail})": repaired.passed,
        "other tests fail than were promised": failed == set(sealed.fail_to_pass),
        "no behaviour test fails": bool(sealed.fail_to_pass),
        "every behaviour test fails": bool(sealed.pass_to_pass),
        "a linter would point at it": not giveaway.adds_a_finding(mended, program),
        "the id is not that of its content": challenge.id
        == write.identity(challenge.reference, challenge.configuration, program),
        "the label is not what the curves show": sealed.label
        == symptom.label(curves.reference, curves.broken, scale),
        "the repaired program has other files": set(mended) == set(program),
        "the title or the brief names an operator": not _names_an_operator(challenge, sealed.rows),
    }
    return [reason for reason, kept in promises.items() if not kept]


def unlucky(judge: Judge, repaired: Mapping[str, str], case: Case, seeds: Sequence[int]) -> list[str]:
    """The seeds on which a test fails a program that has been repaired."""
    failed = {
        seed: [test.name for test in judge.battery(repaired, case, seed, only=case.names) if not test.passed]
        for seed in seeds
    }
    return [f"repaired it fails {names[0]} on hidden seed {seed}" for seed, names in failed.items() if names]


def _partial(judge: Judge, challenge: Challenge, sealed: Sealed, seeds: Sequence[int]) -> list[str]:
    """What a repair of all bugs but one falls short of; nothing where there is one bug."""
    case, reasons = case_of(challenge), []
    if len({len(sealed.alone), len(sealed.own_tests), 0 if challenge.bugs == 1 else challenge.bugs}) > 1:
        reasons.append("not every bug has a program and tests of its own")
    for number, (files, own) in enumerate(zip(sealed.alone, sealed.own_tests, strict=False), 1):
        verdict = judge.judge(dict(files), case, seeds[:1], curves=False)
        passed = [test.name for test in verdict.tests if test.passed]
        if verdict.outcome is not Outcome.PARTIAL:
            reasons.append(f"with bug {number} alone the program is {verdict.outcome}")
        others = [tests for tests in sealed.own_tests if tests is not own]
        if recall([own], passed) or recall(others, passed) < 1:
            reasons.append(f"the tests do not tell bug {number} from the others")
    return reasons


def disguise_faults(judge: Judge, challenge: Challenge, sealed: Sealed) -> list[str]:
    """What is wrong with the disguise: it answers as the plain programs do, with the bugs and without."""
    reference = references.load(sealed.reference)
    seed = sealed.seeds[0]
    mutants = [written(bug, sealed.where[n].split(":")[0]) for n, bug in enumerate(_bugs(sealed))]

    def take(files: Mapping[str, str]) -> str:
        return proof.fingerprint(judge, files, reference, seed)

    return proof.recount(reference, dict(sealed.repaired), challenge.program(), mutants, take)


def _bugs(sealed: Sealed) -> list[Mapping[str, Any]]:
    """The origin of each bug."""
    return list(sealed.provenance.get("bugs", [sealed.provenance]))


def written(bug: Mapping[str, Any], path: str) -> Mutant:
    """A mutant as its origin tells it."""
    edits = tuple(Edit(edit["start"], edit["end"], edit["old"], edit["new"]) for edit in bug["edits"])
    return Mutant(bug["key"], bug.get("operator", ""), "", 0, "", edits, path=path)


def _names_an_operator(challenge: Challenge, rows: Sequence[str]) -> bool:
    words = (challenge.title + challenge.brief()).lower()
    return any(row in words or row.replace("-", " ") in words for row in rows)
