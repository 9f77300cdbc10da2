"""Making a bug set: enumerate, prove, disguise, write.

The gates, cheapest first: the mutant parses and leaves no unused name; the pinned differential or a behaviour
test tells it from the reference; it runs to the end; some behaviour tests fail and some pass; its disguise
trains to the same bits. Choice is by seed: the same seed, reference and version give the same set.
"""

import hashlib
import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bughunt_mutator import Mutant, TreeDisguise, disguise_tree, enumerate_tree, mutated

from bughunt import __version__, references
from bughunt.bugsets import giveaway, symptom, write
from bughunt.bugsets.challenge import BugSet, Curves, Sealed
from bughunt.bugsets.evaluate import Evaluator, Finding, Job
from bughunt.errors import BughuntError, UsageError
from bughunt.references import Reference

HIDDEN_SEEDS = 8
BROKEN_SEEDS = 3
BATCH = 6  # candidates of one program judged at a time
CONTRACT = frozenset({"Config", "build", "train", "predict"})

Event = Callable[[str], None]


@dataclass(frozen=True)
class Accepted:
    """A mutant that passed the gates, in its disguise."""

    reference: Reference
    mutant: Mutant
    configuration: str
    broken: Mapping[str, str]
    repaired: Mapping[str, str]
    failed: Sequence[str]
    passed: Sequence[str]
    curves: Curves
    label: str


def generate(
    name: str,
    count: int,
    seed: int,
    reference_slugs: Sequence[str],
    operator_ids: Sequence[str],
    out: Path,
    on_event: Event = lambda _: None,
    workers: int = 2,
) -> BugSet:
    """Write a set of `count` challenges to `out/name`; BughuntError when the programs yield fewer."""
    folder = out / name
    if folder.exists():
        raise UsageError(f"{folder} exists already", "choose another name or remove the folder")
    slugs = list(reference_slugs) or references.slugs()
    accepted: list[Accepted] = []
    with Evaluator(workers) as evaluate:
        for position, slug in enumerate(slugs):
            wanted = math.ceil((count - len(accepted)) / (len(slugs) - position))
            accepted += _from_program(slug, wanted, seed, operator_ids, accepted, on_event, evaluate)
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
) -> list[Accepted]:
    reference = references.load(slug)
    seeds = hidden_seeds(seed, slug)
    used = Counter(item.mutant.operator for item in so_far)
    healthy: dict[str, Finding] = {}
    accepted: list[Accepted] = []
    candidates = _candidates(reference, seed, operator_ids, used)
    while len(accepted) < wanted and (batch := _take(candidates, BATCH)):
        for mutant, configuration, finding in _tell_apart(reference, batch, seeds, evaluate):
            if any(item.mutant.row == mutant.row for item in accepted):
                continue
            if configuration not in healthy and reference.task.trains:
                healthy[configuration] = _healthy(reference, configuration, seeds, evaluate)
            item = _prove(
                reference,
                mutant,
                configuration,
                finding,
                healthy.get(configuration, Finding()),
                seed,
                evaluate,
            )
            verdict = f"{item.label}, {len(item.failed)} tests" if item else "refused"
            on_event(f"{slug} {mutant.row} line {mutant.line}: {verdict}")
            accepted += [item] if item else []
    return _varied(accepted, wanted)


def _varied(accepted: Sequence[Accepted], wanted: int) -> list[Accepted]:
    """The first of each label, then the second of each, until there are enough."""
    nth: Counter[str] = Counter()
    ranked: list[tuple[int, int, Accepted]] = []
    for item in accepted:
        ranked.append((nth[item.label], len(ranked), item))
        nth[item.label] += 1
    return [item for _, _, item in sorted(ranked, key=lambda entry: entry[:2])[:wanted]]


def hidden_seeds(seed: int, slug: str) -> tuple[int, ...]:
    return tuple(_draw(seed, slug, str(index)) for index in range(HIDDEN_SEEDS))


def _draw(seed: int, *words: str) -> int:
    text = "\0".join([str(seed), *words]).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big") >> 1


def _candidates(
    reference: Reference, seed: int, operator_ids: Sequence[str], used: Counter[str]
) -> Iterator[Mutant]:
    """Mutants in an order drawn from the seed, operators that the set has less often first."""
    files = reference.files
    mutants = [
        mutant
        for mutant in enumerate_tree(files, only=frozenset(operator_ids) or None)
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
) -> list[tuple[Mutant, str, Finding]]:
    """Those of the batch that differ from the reference, with the configuration in which they do."""
    names = list(reference.task.configurations)
    if not reference.task.trains:
        looks = _looks(reference, batch, names[:1], seeds[0], evaluate, tests=True)
        return [(m, names[0], look) for m, (look,) in zip(batch, looks, strict=True) if _some_fail(look)]
    looks = _looks(reference, batch, names, seeds[0], evaluate, differential=True)
    differing = {
        mutant: [name for name, look in zip(names, row, strict=True) if look.equal is False]
        for mutant, row in zip(batch, looks, strict=True)
        if not any(look.error for look in row)
    }
    tried = [mutant for mutant, found in differing.items() if found]
    tests = _looks(reference, tried, names[:1], seeds[0], evaluate, tests=True)
    return [
        (mutant, differing[mutant][0], look)
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
    mutant: Mutant,
    configuration: str,
    tests: Finding,
    healthy: Finding,
    seed: int,
    evaluate: Evaluator,
) -> Accepted | None:
    """Disguise the mutant and show that the disguise changes nothing: the square commutes."""
    keep = CONTRACT | frozenset(reference.task.exports)
    cover = disguise_tree(reference.files, _draw(seed, "disguise", mutant.key), keep=keep)
    if giveaway.adds_a_finding(cover.files, cover.broken(reference.files, mutant)):
        return None
    if reference.task.trains:
        found = _bit_equal(reference, mutant, cover, configuration, healthy, seed, evaluate)
    else:
        found = _equal_by_tests(reference, mutant, cover, configuration, tests, seed, evaluate)
    if found is None:
        return None
    curves, kind = found
    return Accepted(
        reference,
        mutant,
        configuration,
        cover.broken(reference.files, mutant),
        cover.files,
        tests.failed,
        tests.passed,
        curves,
        kind,
    )


def _bit_equal(
    reference: Reference,
    mutant: Mutant,
    cover: TreeDisguise,
    configuration: str,
    healthy: Finding,
    seed: int,
    evaluate: Evaluator,
) -> tuple[Curves, str] | None:
    """The curves and their label, when plain and disguised programs report the same losses bit for bit."""
    seeds, slug = hidden_seeds(seed, reference.slug), reference.slug
    plain, broken = mutated(reference.files, mutant), cover.broken(reference.files, mutant)
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


def _equal_by_tests(
    reference: Reference,
    mutant: Mutant,
    cover: TreeDisguise,
    configuration: str,
    tests: Finding,
    seed: int,
    evaluate: Evaluator,
) -> tuple[Curves, str] | None:
    """No curves and `silent`, when the disguised programs fail the tests that the plain ones fail."""
    seeds = hidden_seeds(seed, reference.slug)
    versions = (cover.files, cover.broken(reference.files, mutant))
    jobs = [Job(reference.slug, configuration, files, tests=True, seed=seeds[0]) for files in versions]
    repaired, broken = evaluate(jobs)
    if repaired.error or repaired.failed or broken.error or set(broken.failed) != set(tests.failed):
        return None
    return Curves((), (), (), (), (), seeds), "silent"


def _same(one: Finding, other: Finding) -> bool:
    """Equal to the bit, step by step, NaN equal to NaN."""
    return repr(list(one.reported[0])) == repr(list(other.reported[0]))


def _write(folder: Path, accepted: Sequence[Accepted], seed: int) -> BugSet:
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".bughunt-"))
    try:
        ids = [
            write.challenge(scratch, *_described(item, seed)) for item in sorted(accepted, key=_difficulty)
        ]
        write.bugset(scratch, folder.name, ids, seed, __version__)
        scratch.chmod(0o755)
        scratch.rename(folder)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return BugSet.load(folder)


def _difficulty(item: Accepted) -> tuple[int, str, str]:
    return (level(item), item.reference.slug, item.mutant.key)


def level(item: Accepted) -> int:
    """1 (seen at once) to 5 (only a targeted test sees it): the operator's mark and what was measured."""
    mark = write.operator_of(item.mutant).difficulty
    measured = {"visible": 1, "deceptive": 3, "silent": 4}[item.label]
    if not item.curves.steps:  # nothing trains, so nothing was to be seen
        measured = 2
    return max(1, min(5, round((mark + measured) / 2)))


def _described(item: Accepted, seed: int) -> tuple[dict[str, object], Mapping[str, str], str, Curves, Sealed]:
    task, curves = item.reference.task, item.curves
    metrics = (curves.reference_metric, curves.broken_metric)
    runs = (curves.reference, curves.broken)
    fields = {
        "title": symptom.title(task, item.label, *runs, item.failed),
        "reference": item.reference.slug,
        "configuration": item.configuration,
        "level": level(item),
        "minutes": 5 + 5 * level(item),
        "metric": task.metric_name,
        "curve": task.curve_name,
        "steps": task.steps,
        "tests": len(item.failed) + len(item.passed),
        "bugs": 1,
    }
    text = symptom.brief(task, item.label, *runs, metrics, item.failed)
    sealed = write.sealed(item.reference, item.mutant, item, seed)
    return fields, item.broken, text, curves, sealed
