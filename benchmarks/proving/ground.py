"""Cases of the proving ground: for each reference one challenge, and files that are right or wrong for it."""

import contextlib
import hashlib
import json
import random
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import platformdirs
from bughunt_mutator import Mutant, enumerate_tree, mutated
from matrix.record import is_excused

from bughunt import references
from bughunt.files import write_text
from bughunt.judge.case import Case
from bughunt.judge.judge import Judge
from bughunt.judge.program import ProgramError
from bughunt.judge.verdict import Curve
from bughunt.references import Reference
from proving import proofs, rewrites, wrongs
from proving.ledger import ROOT, Ledger, digest, judge_digest

HAND_MADE = ROOT / "tests" / "verdicts" / "ground"
Prove = Callable[[Judge, Reference, Mapping[str, str]], "str | bool"]
HIDDEN_SEEDS = tuple(range(7001, 7009))
BROKEN_SEEDS, SEEDS = 3, 3
WITH_OTHER_DRAWS = 3  # rewrites to one that is followed by a copy with other draws
ON_REPAIRED = (
    "tuned-rate",
    "bigger-model",
    "extra-steps",
    "few-updates",
    "remembered-answers",
    "scaled-report",
)


@dataclass(frozen=True)
class File:
    """One program with what it deserves: SOLVED or not."""

    reference: str
    right: bool
    name: str
    files: Mapping[str, str]
    proof: str = ""  # how it is known; filled in once it is
    row: str = ""  # the catalogue row of a wrong one that has a single mistake
    before: Mapping[str, str] | None = None  # the draws became others: what the proof is about

    @property
    def proved(self) -> Mapping[str, str]:
        """The files that a proof has to look at."""
        return self.before or self.files


@dataclass(frozen=True)
class Found:
    """The judge on one file."""

    reference: str
    right: bool
    name: str
    proof: str
    row: str
    outcome: str
    layer: str
    layers: Mapping[str, bool] = field(default_factory=dict)
    why: str = ""
    seconds: float = 0.0

    @property
    def wrong_answer(self) -> bool:
        return (self.outcome == "SOLVED") != self.right


def held_out(slug: str) -> bool:
    """A third of the references, chosen by their names, on which nothing was tuned."""
    return hashlib.blake2b(slug.encode(), digest_size=2).digest()[0] % 3 == 0


def hand_made(reference: Reference) -> Iterator[File]:
    """Edits that people wrote: `[right.<name>]` and `[wrong.<name>]`, each a list of (old, new)."""
    path = HAND_MADE / f"{reference.slug}.toml"
    if not path.exists():
        return
    for kind, entries in tomllib.loads(path.read_text(encoding="utf-8")).items():
        for name, edits in entries.items():
            yield File(reference.slug, kind == "right", name, edited(reference.files, edits), "hand")


def edited(files: Mapping[str, str], edits: Sequence[Sequence[str]]) -> dict[str, str]:
    """The files after edits (old, new), or (path, old, new); each old text stands there exactly once."""
    now = dict(files)
    for *where, old, new in edits:
        path = where[0] if where else "train.py"
        if now[path].count(old) != 1:
            raise ValueError(f"{old!r} stands {now[path].count(old)} times in {path}")
        now[path] = now[path].replace(old, new)
    return now


def generated_right(reference: Reference, seed: int) -> Iterator[File]:
    """Without end: rewrites chosen by the seed, each text once."""
    keep = frozenset(part for name in reference.task.exports for part in name.split("."))
    seen = {json.dumps(dict(reference.files))}
    for index in range(1000):
        made = rewrites.written_differently(reference.files, seed * 1000 + index, keep)
        if made is None or (text := json.dumps(made[1])) in seen:
            continue
        names, files = made
        if not reference.task.trains and not set(names) <= set(rewrites.EXACT):
            continue
        seen.add(text)
        yield File(reference.slug, True, "+".join(names), files)
        if index % WITH_OTHER_DRAWS == 0:
            name = "+".join((*names, "other-draws"))
            yield from _drawn_anew(File(reference.slug, True, name, files), seed * 1000 + index)


def generated_wrong(reference: Reference, broken: Mutant, seed: int) -> Iterator[File]:
    """The unfixed file, then mutants and cheats in turn, each text once; no equivalent mutants."""
    slug, given = reference.slug, mutated(reference.files, broken)
    yield File(slug, False, "unfixed", given, row=broken.row)
    seen = {json.dumps(given)}
    others = _mixed(mutants(slug), seed, slug)
    for index, mutant in enumerate(others):
        if is_excused(slug, mutant, reference.files):
            continue
        start = mutated(reference.files, mutant)
        found = [File(slug, False, "another-bug", start, row=mutant.row)]
        cheats = sorted(wrongs.CHEATS)
        for name in (cheats[index % len(cheats)], cheats[(index + 3) % len(cheats)]):
            base = (reference.files, "repaired") if name in ON_REPAIRED and index < 8 else (start, mutant.row)
            made = wrongs.CHEATS[name](base[0], random.Random(seed * 1000 + index))
            if made is not None:
                found.append(File(slug, False, f"{name} on {base[1]}", made))
        found += _drawn_anew(File(slug, False, "other-draws", start, row=mutant.row), seed * 1000 + index)
        for file in found:
            if (text := json.dumps(dict(file.files))) not in seen:
                seen.add(text)
                yield file


def _drawn_anew(file: File, seed: int) -> Iterator[File]:
    """The same with other draws in training, where they can be made others."""
    drawn = rewrites.other_draws(file.files, random.Random(seed))
    if drawn is not None:
        yield replace(file, files=drawn, before=file.files)


@cache
def mutants(slug: str) -> list[Mutant]:
    return enumerate_tree(references.load(slug).files)


def _mixed(found: Sequence[Mutant], seed: int, slug: str) -> list[Mutant]:
    order = list(found)
    random.Random(f"{seed} {slug}").shuffle(order)
    return order


class Ground:
    """Judges files; what is found of them goes into a ledger, and what it takes into a cache."""

    def __init__(
        self,
        judge: Judge,
        *,
        thorough: bool = False,
        folder: Path | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        self.judge, self.thorough = judge, thorough
        default = Path(platformdirs.user_cache_dir("bughunt", appauthor=False)) / "ground"
        self.folder, self.ledger = folder or default, ledger or Ledger()

    def case(self, reference: Reference, seed: int) -> tuple[Case, Mutant]:
        """The first mutant, in an order drawn from the seed, that trains and that some tests see, not all."""
        bare = Case(reference.task, reference.files, reference.test_path)
        for mutant in _mixed(mutants(reference.slug), seed, "case " + reference.slug):
            files = mutated(reference.files, mutant)
            tests = self._cached(
                ["battery", *_texts(reference), files], lambda files=files: self._battery(files, bare)
            )
            if any(tests.values()) and not all(tests.values()):
                with contextlib.suppress(ProgramError):
                    return self._with_curves(reference, mutant, bare, tests), mutant
        raise ValueError(f"no test of {reference.slug} sees any mutant")

    def right(self, reference: Reference, count: int, seed: int) -> Iterator[File]:
        """Up to `count` proved ones, those of people first."""
        made = [*hand_made(reference)]
        yield from _first([f for f in made if f.right], count)
        left = count - sum(f.right for f in made)
        for file in generated_right(reference, seed):
            if left <= 0:
                return
            proof = "construction" if not reference.task.trains else self._proved_equal(reference, file)
            if proof:
                left -= 1
                yield replace(file, proof=proof)

    def wrong(self, reference: Reference, broken: Mutant, count: int, seed: int) -> Iterator[File]:
        """Up to `count` that are proved to end up elsewhere, those of people first."""
        made = [file for file in hand_made(reference) if not file.right]
        yield from _first(made, count)
        left = count - len(made)
        for file in generated_wrong(reference, broken, seed):
            if left <= 0:
                return
            if reference.task.trains and self._proved_elsewhere(reference, file):
                left -= 1
                yield replace(file, proof="elsewhere")

    def judged(self, file: File, case: Case, device: str = "cpu") -> Found:
        """The verdict, remembered for this very judge."""
        of = rests_on(references.load(file.reference))
        what = [dict(file.files), asdict(_stripped(case)), self.thorough, device]
        key = digest("judged", what, of)
        line = self.ledger.get(key)
        if line is None:
            about = {"right": file.right, "name": file.name, "proof": file.proof, "row": file.row}
            found = self._judge(file, case)
            self._put(file, key, {**about, **found, "of": of, "judge": judge_digest(tuple(found["layers"]))})
            line = self.ledger.get(key)
        return found_of(line or {})

    def _judge(self, file: File, case: Case) -> dict[str, Any]:
        verdict = self.judge.judge(file.files, case, seeds_of(file.files), stop_early=not self.thorough)
        failed = [test.name for test in verdict.tests if not test.passed]
        one = verdict.differential
        why = [f"{len(failed)} tests fail: {', '.join(failed[:3])}"] if failed else []
        if one and not one.passed:
            why.append(f"{one.what} at step {one.first_step}: {one.deviation:.2g}")
        return {
            "outcome": str(verdict.outcome),
            "layer": verdict.layer,
            "layers": dict(verdict.layers),
            "why": "; ".join([*why, verdict.detail] if verdict.detail else why),
            "seconds": round(verdict.seconds, 2),
        }

    def _battery(self, files: Mapping[str, str], case: Case) -> dict[str, bool]:
        return {test.name: test.passed for test in self.judge.battery(files, case, HIDDEN_SEEDS[0])}

    def _with_curves(
        self, reference: Reference, mutant: Mutant, bare: Case, tests: Mapping[str, bool]
    ) -> Case:
        files = mutated(reference.files, mutant)
        sick = [self._curve(reference, files, seed) for seed in HIDDEN_SEEDS[:BROKEN_SEEDS]]
        healthy = [self._curve(reference, reference.files, seed) for seed in HIDDEN_SEEDS]
        return Case(
            bare.task,
            bare.reference_files,
            bare.test_path,
            fail_to_pass=[name for name, passed in tests.items() if not passed],
            pass_to_pass=[name for name, passed in tests.items() if passed],
            reference_curves=[curve for curve in healthy if curve],
            broken_curves=[curve for curve in sick if curve],
        )

    def _curve(self, reference: Reference, files: Mapping[str, str], seed: int) -> Curve | None:
        if not reference.task.trains:
            return None
        what = ["curve", *_texts(reference), dict(files), seed]
        return Curve(**self._cached(what, lambda: _short(self.judge.measure(files, reference.task, seed))))

    def _proved_equal(self, reference: Reference, file: File) -> str:
        return str(self._proved("equal", reference, file, proofs.equal))

    def _proved_elsewhere(self, reference: Reference, file: File) -> bool:
        return bool(self._proved("elsewhere", reference, file, proofs.elsewhere))

    def _proved(self, what: str, reference: Reference, file: File, prove: Prove) -> str | bool:
        of = rests_on(reference, tests=False)
        key = digest(what, dict(file.proved), of)
        line = self.ledger.get(key)
        if line is None:
            self._put(file, key, {what: prove(self.judge, reference, file.proved), "of": of})
            line = self.ledger.get(key) or {}
        proof: str | bool = line[what]
        return proof

    def _put(self, file: File, key: str, finding: Mapping[str, Any]) -> None:
        self.ledger.put(key, {"reference": file.reference, **finding})

    def _cached(self, what: Sequence[Any], find: Callable[[], Any]) -> Any:
        path = self.folder / digest(*what)
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8"))
        found = find()
        write_text(path, json.dumps(found))
        return found


def rests_on(reference: Reference, *, tests: bool = True) -> str:
    """A digest of a reference with its task, and its tests where they matter."""
    return digest(*_texts(reference)[: None if tests else -1])


def found_of(line: Mapping[str, Any]) -> Found:
    """A verdict as the ledger keeps it."""
    return Found(**{name: line[name] for name in Found.__dataclass_fields__})


def verdicts(lines: Iterable[Mapping[str, Any]]) -> list[Found]:
    """Those among the findings of a ledger."""
    return [found_of(line) for line in lines if "outcome" in line]


def seeds_of(files: Mapping[str, str]) -> list[int]:
    """Three of the hidden seeds; the same file always gets the same ones."""
    text = json.dumps(dict(files), sort_keys=True)
    order = sorted(HIDDEN_SEEDS, key=lambda seed: hashlib.sha256(f"{seed} {text}".encode()).digest())
    return order[:SEEDS]


def _first(files: Sequence[File], count: int) -> Sequence[File]:
    return files[:count]


def _texts(reference: Reference) -> list[Any]:
    task = (reference.folder / "task.py").read_text(encoding="utf-8")
    return [dict(reference.files), task, reference.test_path.read_text(encoding="utf-8")]


def _short(curve: Curve) -> dict[str, Any]:
    return {name: list(getattr(curve, name)) for name in ("steps", "values", "metrics")} | {
        "seed": curve.seed
    }


def _stripped(case: Case) -> "_Promises":
    return _Promises(list(case.fail_to_pass), list(case.pass_to_pass), case.label)


@dataclass(frozen=True)
class _Promises:
    fail_to_pass: Sequence[str]
    pass_to_pass: Sequence[str]
    label: str
