"""Making a bug set: enumerate, prove, disguise, write.

The program is run once for the facts that some operators need. The gates, cheapest first: the mutant parses
and leaves no unused name; the pinned differential or a behaviour test tells it from the reference; it runs to
the end; some behaviour tests fail and some pass; several bugs do not mask each other; the disguise answers to
the same bits. Choice is by seed: the same seed, reference and version give the same set.
"""

import hashlib
import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bughunt_mutator import Facts, Mutant, TreeDisguise, enumerate_tree, mutated

from bughunt import __version__, references
from bughunt.bugsets import facts, giveaway, proof, symptom, write
from bughunt.bugsets.accepted import Accepted
from bughunt.bugsets.challenge import BugSet, Curves
from bughunt.bugsets.combine import Suspect, groups, joint_tests, own_tests
from bughunt.bugsets.evaluate import Evaluator, Finding, Job
from bughunt.errors import BughuntError, UsageError
from bughunt.references import Reference

HIDDEN_SEEDS = 8
BROKEN_SEEDS = 3
BATCH = 6  # candidates of one program judged at a time

Event = Callable[[str], None]


def generate(
    name: str,
    count: int,
    seed: int,
    reference_slugs: Sequence[str],
    operator_ids: Sequence[str],
    out: Path,
    on_event: Event = lambda _: None,
    workers: int = 2,
    bugs: int = 1,
) -> BugSet:
    """Write a set of `count` challenges, each with so many bugs; BughuntError when there are fewer."""
    folder = out / name
    if folder.exists():
        raise UsageError(f"{folder} exists already", "choose another name or remove the folder")
    slugs = list(reference_slugs) or references.slugs()
    accepted: list[Accepted] = []
    with Evaluator(workers) as evaluate:
        for position, slug in enumerate(slugs):
            wanted = math.ceil((count - len(accepted)) / (len(slugs) - position))
            accepted += _from_program(slug, wanted, seed, operator_ids, accepted, on_event, evaluate, bugs)
    if len(accepted) < count:
        raise BughuntError(
            f"only {len(accepted)} of {count} challenges passed every gate",
            "allow more programs or operators, ask for fewer, or take another seed",
        )
    return _write(folder, accepted[:count], seed)


def _from_program(
    slug: str,
    wanted: int,
    seed: int,
    operator_ids: Sequence[str],
    so_far: Sequence[Accepted],
    on_event: Event,
    evaluate: Evaluator,
    bugs: int,
) -> list[Accepted]:
    reference = references.load(slug)
    used = Counter(mutant.operator for item in so_far for mutant in item.mutants)
    healthy: dict[str, Finding] = {}
    accepted: list[Accepted] = []
    known: list[Suspect] = []
    known_facts = facts_of(reference, evaluate, on_event)
    candidates = _candidates(reference, seed, operator_ids, used, known_facts)
    seeds: tuple[int, ...] = ()
    while len(accepted) < wanted and (batch := _take(candidates, BATCH)):
        seeds = seeds or fair_seeds(reference, seed, evaluate)
        fresh = _tell_apart(reference, batch, seeds, evaluate)
        for group in groups(reference, known, fresh, bugs):
            rows = {mutant.row for item in accepted for mutant in item.mutants}
            if rows & {suspect.mutant.row for suspect in group} or (bugs > 1 and len(accepted) >= wanted):
                continue
            configuration = group[0].configuration
            if configuration not in healthy and reference.task.trains:
                healthy[configuration] = _healthy(reference, configuration, seeds, evaluate)
            item = _prove(reference, group, healthy.get(configuration, Finding()), seed, seeds, evaluate)
            verdict = f"{item.label}, {len(item.failed)} tests" if item else "refused"
            on_event(f"{slug} {_named(group)}: {verdict}")
            accepted += [item] if item else []
        known += fresh if bugs > 1 else []
    return _varied(accepted, wanted)


def _named(group: Sequence[Suspect]) -> str:
    return ", ".join(f"{suspect.mutant.row} line {suspect.mutant.line}" for suspect in group)


def _varied(accepted: Sequence[Accepted], wanted: int) -> list[Accepted]:
    """The first of each label, then the second of each, until there are enough."""
    nth: Counter[str] = Counter()
    ranked: list[tuple[int, int, Accepted]] = []
    for item in accepted:
        ranked.append((nth[item.label], len(ranked), item))
        nth[item.label] += 1
    return [item for _, _, item in sorted(ranked, key=lambda entry: entry[:2])[:wanted]]


def fair_seeds(reference: Reference, seed: int, evaluate: Evaluator) -> tuple[int, ...]:
    """The first drawn ones on which no test fails by bad luck; BughuntError where it is no matter of luck."""
    slug, first = reference.slug, next(iter(reference.task.configurations))
    fair: list[int] = []
    for start in range(0, 4 * HIDDEN_SEEDS, HIDDEN_SEEDS):
        drawn = [_draw(seed, slug, str(start + index)) for index in range(HIDDEN_SEEDS)]
        jobs = [Job(slug, first, reference.files, tests=True, seed=one) for one in drawn]
        looks = zip(drawn, evaluate(jobs), strict=True)
        fair += [one for one, look in looks if look.passed and not look.failed and not look.error]
        if len(fair) >= HIDDEN_SEEDS:
            return tuple(fair[:HIDDEN_SEEDS])
    raise BughuntError(f"{slug} fails its own tests", f"try: bughunt references check {slug}")


def _draw(seed: int, *words: str) -> int:
    text = "\0".join([str(seed), *words]).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big") >> 1


def facts_of(reference: Reference, evaluate: Evaluator, on_event: Event = lambda _: None) -> dict[str, Facts]:
    """What the expressions of a program are when it runs, recorded once; nothing where that fails."""
    (found,) = evaluate([Job(reference.slug, "default", reference.files, facts=facts.FORMAT)])
    if found.error:
        on_event(f"{reference.slug}: no facts, {found.error}")
    return facts.parsed(found.facts)


def _candidates(
    reference: Reference,
    seed: int,
    operator_ids: Sequence[str],
    used: Counter[str],
    known: Mapping[str, Facts],
) -> Iterator[Mutant]:
    """Mutants in an order drawn from the seed, operators that the set has less often first."""
    files = reference.files
    mutants = [
        mutant
        for mutant in enumerate_tree(files, frozenset(operator_ids) or None, known)
        if not giveaway.adds_a_finding(files, mutated(files, mutant))
    ]
    order = sorted(mutants, key=lambda m: _draw(seed, reference.slug, m.key))
    nth: Counter[str] = Counter()
    ranked: list[tuple[int, int, Mutant]] = []
    for mutant in order:
        ranked.append((used[mutant.operator] + nth[mutant.row], len(ranked), mutant))
        nth[mutant.row] += 1
    yield from (mutant for _, _, mutant in sorted(ranked, key=lambda entry: entry[:2]))


def _take(candidates: Iterator[Mutant], count: int) -> list[Mutant]:
    return [mutant for mutant, _ in zip(candidates, range(count), strict=False)]


def _tell_apart(
    reference: Reference, batch: Sequence[Mutant], seeds: Sequence[int], evaluate: Evaluator
) -> list[Suspect]:
    """Those of the batch that differ from the reference, with the configuration in which they do."""
    names = list(reference.task.configurations)
    if not reference.task.trains:
        looks = _looks(reference, batch, names[:1], seeds[0], evaluate, tests=True)
        pairs = zip(batch, looks, strict=True)
        return [Suspect(mutant, names[0], look) for mutant, (look,) in pairs if _some_fail(look)]
    looks = _looks(reference, batch, names, seeds[0], evaluate, differential=True)
    differing = {
        mutant: [name for name, look in zip(names, row, strict=True) if look.equal is False]
        for mutant, row in zip(batch, looks, strict=True)
        if not any(look.error for look in row)
    }
    tried = [mutant for mutant, found in differing.items() if found]
    tests = _looks(reference, tried, names[:1], seeds[0], evaluate, tests=True)
    return [
        Suspect(mutant, differing[mutant][0], look)
        for mutant, (look,) in zip(tried, tests, strict=True)
        if _some_fail(look)
    ]


def _some_fail(look: Finding) -> bool:
    return bool(look.failed and look.passed) and not look.error


def _looks(
    reference: Reference,
    mutants: Sequence[Mutant],
    configurations: Sequence[str],
    seed: int,
    evaluate: Evaluator,
    *,
    tests: bool = False,
    differential: bool = False,
) -> list[list[Finding]]:
    jobs = [
        Job(reference.slug, name, mutated(reference.files, mutant), tests, differential, (), seed)
        for mutant in mutants
        for name in configurations
    ]
    findings = evaluate(jobs)
    width = len(configurations)
    return [findings[index : index + width] for index in range(0, len(findings), width)]


def _healthy(reference: Reference, configuration: str, seeds: Sequence[int], evaluate: Evaluator) -> Finding:
    jobs = [Job(reference.slug, configuration, reference.files, curve_seeds=(s,)) for s in seeds]
    return _joined(evaluate(jobs))


def _joined(findings: Sequence[Finding]) -> Finding:
    return Finding(
        error=next((finding.error for finding in findings if finding.error), ""),
        steps=findings[0].steps,
        values=[values for finding in findings for values in finding.values],
        metrics=[metric for finding in findings for metric in finding.metrics],
        reported=[run for finding in findings for run in finding.reported],
    )


def _prove(
    reference: Reference,
    group: Sequence[Suspect],
    healthy: Finding,
    seed: int,
    seeds: tuple[int, ...],
    evaluate: Evaluator,
) -> Accepted | None:
    """Show that no bug masks another, and disguise them: the square commutes."""
    mutants = [suspect.mutant for suspect in group]
    tests = joint_tests(reference, group, seeds[0], evaluate)
    if tests is None or giveaway.adds_a_finding(reference.files, mutated(reference.files, *mutants)):
        return None
    own = _draw(seed, "disguise", *(mutant.key for mutant in mutants))
    cover = _disguised(reference, mutants, own, seeds[0], evaluate)
    if cover is None or giveaway.adds_a_finding(reference.files, cover.files):
        return None
    if giveaway.adds_a_finding(cover.files, cover.broken()):
        return None
    found: tuple[Curves, str] | None
    if reference.task.trains:
        if not _same_tests(reference, cover, tests, seeds[0], evaluate):
            return None
        found = _curves(reference, mutants, cover, group[0].configuration, healthy, seeds, evaluate)
    else:
        found = Curves((), (), (), (), (), seeds), "silent"
    if found is None:
        return None
    several = len(group) > 1
    return Accepted(
        reference,
        mutants,
        group[0].configuration,
        cover.broken(),
        cover.files,
        tests.failed,
        tests.passed,
        *found,
        own=own_tests(group) if several else (),
        alone=[cover.broken([number]) for number in range(len(group))] if several else (),
        rewrites=dict(sorted(cover.used.items())),
    )


def _disguised(
    reference: Reference, mutants: Sequence[Mutant], own: int, first: int, evaluate: Evaluator
) -> TreeDisguise | None:
    """A disguise of its own seed that was proved to change no number."""

    def take(files: Mapping[str, str]) -> str:
        (found,) = evaluate([Job(reference.slug, "default", files, fingerprint=True, seed=first)])
        return found.fingerprint or found.error

    return proof.settle(reference, mutants, own, take)


def _same_tests(
    reference: Reference, cover: TreeDisguise, tests: Finding, start: int, evaluate: Evaluator
) -> bool:
    """Whether the disguised programs fail the tests that the plain ones fail."""
    first = next(iter(reference.task.configurations))
    versions = (cover.files, cover.broken())
    jobs = [Job(reference.slug, first, files, tests=True, seed=start) for files in versions]
    repaired, broken = evaluate(jobs)
    if repaired.error or repaired.failed or broken.error:
        return False
    return set(broken.failed) == set(tests.failed)


def _curves(
    reference: Reference,
    mutants: Sequence[Mutant],
    cover: TreeDisguise,
    configuration: str,
    healthy: Finding,
    seeds: tuple[int, ...],
    evaluate: Evaluator,
) -> tuple[Curves, str] | None:
    """The curves and their label, when plain and disguised programs report the same losses to their end."""
    slug = reference.slug
    plain, broken = mutated(reference.files, *mutants), cover.broken()
    jobs = [Job(slug, configuration, plain, curve_seeds=(seeds[0],))]
    jobs += [Job(slug, configuration, cover.files, curve_seeds=(seeds[0],))]
    jobs += [Job(slug, configuration, broken, curve_seeds=(s,)) for s in seeds[:BROKEN_SEEDS]]
    looks = evaluate(jobs)
    sick = _joined(looks[2:])
    if any(look.error for look in looks) or healthy.error:
        return None
    if not _same(looks[0], looks[2]) or not _same(looks[1], replace(healthy, reported=healthy.reported[:1])):
        return None
    curves = Curves(
        steps=healthy.steps,
        reference=healthy.values,
        broken=sick.values,
        reference_metric=healthy.metrics,
        broken_metric=sick.metrics,
        seeds=seeds,
    )
    return curves, symptom.label(healthy.values, sick.values, reference.task.scale)


def _same(one: Finding, other: Finding) -> bool:
    """Equal to the bit, step by step, NaN equal to NaN."""
    return repr(list(one.reported[0])) == repr(list(other.reported[0]))


def _write(folder: Path, accepted: Sequence[Accepted], seed: int) -> BugSet:
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".bughunt-"))
    try:
        titles: set[str] = set()
        ids = [
            write.challenge(scratch, *write.described(item, seed, titles))
            for item in sorted(accepted, key=_difficulty)
        ]
        write.bugset(scratch, folder.name, ids, seed, __version__)
        scratch.chmod(0o755)
        scratch.rename(folder)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return BugSet.load(folder)


def _difficulty(item: Accepted) -> tuple[int, str, str]:
    return (write.level(item), item.reference.slug, item.key)
