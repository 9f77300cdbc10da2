"""Proving a disguise: the same numbers, to the last bit, with the bugs and without.

A fingerprint is a digest of all that a program answers: in each configuration of its task, and in a small one
that runs to its end, the losses it reports, the weights it ends with and every prediction that the task's
measurement takes; for a program without training, every value that its behaviour tests receive.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

from bughunt_mutator import EditError, Mutant, TreeDisguise, disguise_tree, mutated

from bughunt.errors import BughuntError
from bughunt.judge import wire
from bughunt.judge.battery import run_battery
from bughunt.judge.curves import measure
from bughunt.judge.judge import Judge
from bughunt.judge.program import ProgramError, RemoteProgram, RemoteRun
from bughunt.references import Reference
from bughunt.task import Model, Program, Task, Value

CONTRACT = frozenset({"Config", "build", "train", "predict"})
ANSWERS = ("predict", "call", "call_method", "state", "config", "parameters", "gradients")
ROUNDS = 8  # rewrites that may be left out before a disguise is given up
STEPS = 10

Files = Mapping[str, str]
Fingerprint = Callable[[Files], str]


def kept(task: Task) -> frozenset[str]:
    """The names that the judge calls a program by."""
    return CONTRACT | {part for name in task.exports for part in name.split(".")}


class _Heard:
    """A program every answer of which goes into a digest as it passes."""

    def __init__(self, program: RemoteProgram) -> None:
        self._program = program
        self.digest = hashlib.sha256()

    def train(self, model: Model, data: Value, seed: int, **config: Value) -> "_HeardRun":
        return _HeardRun(self, self._program.train(model, data, seed, **config))

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._program, name)
        return self._listening(found) if name in ANSWERS else found

    def _listening(self, method: Callable[..., Value]) -> Callable[..., Value]:
        def listened(*args: Value, **kwargs: Value) -> Value:
            return self.hear(lambda: method(*args, **kwargs))

        return listened

    def hear(self, ask: Callable[[], Value]) -> Value:
        """Note an answer, or the kind of a failure."""
        try:
            answer = ask()
        except ProgramError as error:
            self.digest.update(error.kind.encode())
            raise
        if not isinstance(answer, wire.Handle):
            self.digest.update(wire.encode(answer))
        return answer


class _HeardRun:
    """A training every loss of which goes into the digest."""

    def __init__(self, program: _Heard, run: RemoteRun) -> None:
        self._program, self._run = program, run

    def next(self, count: int = 1) -> list[float]:
        return cast(list[float], self._program.hear(lambda: self._run.next(count)))


def fingerprint(
    judge: Judge,
    files: Files,
    reference: Reference,
    seed: int,
    at_end: Callable[[RemoteProgram], object] = lambda _: None,
) -> str:
    """A digest of what a program answers; ProgramError where it does not run.

    `at_end` is given each program that was run, before it is closed.
    """
    if not reference.task.trains:
        return _of_tests(judge, files, reference, seed, at_end)
    digests = []
    for config, steps in _runs(reference.task):
        with judge.open(files, reference.task) as program:
            heard = _Heard(program)
            _train(heard, reference.task, seed, config, steps)
            at_end(program)
        digests.append(heard.digest.hexdigest())
    return _joined(digests)


def _runs(task: Task) -> Iterator[tuple[Mapping[str, Value], int]]:
    """Each configuration for a few steps, and the first in small, to its end where that is near."""
    for config in task.configurations.values():
        yield config, min(task.pinned_steps, STEPS)
    first = next(iter(task.configurations.values()))
    small = {**first, **task.small}
    yield small, min(int(small.get("steps") or 2 * STEPS), 4 * STEPS) + 1


def _train(program: _Heard, task: Task, seed: int, config: Mapping[str, Value], steps: int) -> None:
    data = task.data(seed)
    model = program.build(seed, **config)
    program.state(model)
    run = program.train(model, data.train, seed, **config)
    run.next(steps)
    program.state(model)
    measure(cast(Program, program), task, model, data.held_out)


def _of_tests(
    judge: Judge,
    files: Files,
    reference: Reference,
    seed: int,
    at_end: Callable[[RemoteProgram], object],
) -> str:
    digests: list[str] = []

    @contextmanager
    def opened() -> Iterator[Program]:
        with judge.open(files, reference.task) as program:
            heard = _Heard(program)
            yield cast(Program, heard)
            at_end(program)
        digests.append(heard.digest.hexdigest())

    results = run_battery(opened, reference.task, reference.test_path, seed)
    return _joined([*digests, *(f"{result.name} {result.passed}" for result in results)])


def _joined(parts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def settle(
    reference: Reference, mutants: Sequence[Mutant], seed: int, take: Fingerprint
) -> TreeDisguise | None:
    """A seed's disguise that changes no number, less the rewrites that would; None where there is none.

    The square commutes: the disguised program answers as the plain one does, with all of the mutants, with
    each alone, with none. A rewrite that breaks this for the program is found by bisection and left out.
    """
    square = _Square(reference, mutants, seed, take)
    left_out: frozenset[str] = frozenset()
    for _ in range(ROUNDS):
        cover = square.cover(left_out)
        if cover is not None and square.commutes(cover):
            return cover
        used = sorted(cover.used) if cover else []
        if not used:
            return None
        left_out |= {_culprit(used, left_out, square)}
    return None


class _Square:
    """A program with and without its mutants, before and after a disguise."""

    def __init__(self, reference: Reference, mutants: Sequence[Mutant], seed: int, take: Fingerprint) -> None:
        self._reference, self._mutants, self._seed, self._take = reference, mutants, seed, take
        self._corners = corners(len(mutants))
        files = reference.files
        self._plain = [take(mutated(files, *(mutants[n] for n in which))) for which in self._corners]

    def cover(self, left_out: frozenset[str]) -> TreeDisguise | None:
        files, keep = self._reference.files, kept(self._reference.task)
        try:
            return disguise_tree(files, self._seed, keep, self._mutants, left_out)
        except ValueError:
            return None

    def commutes(self, cover: TreeDisguise) -> bool:
        pairs = zip(self._corners, self._plain, strict=True)
        return all(self._take(_disguised(cover, which)) == plain for which, plain in pairs)


def corners(count: int) -> list[tuple[int, ...]]:
    """None of so many mutants, each alone, and all."""
    alone = [(number,) for number in range(count)]
    return [(), *alone, *([tuple(range(count))] if count > 1 else [])]


def _disguised(cover: TreeDisguise, which: Sequence[int]) -> Files:
    return cover.broken(which) if which else cover.files


def _culprit(used: Sequence[str], left_out: frozenset[str], square: _Square) -> str:
    """The last of the shortest run of rewrites, from the first, with which the square fails."""
    good, bad = 0, len(used)
    while bad - good > 1:
        middle = (good + bad) // 2
        cover = square.cover(left_out | frozenset(used[middle:]))
        if cover is not None and square.commutes(cover):
            good = middle
        else:
            bad = middle
    return used[bad - 1]


def recount(
    reference: Reference,
    repaired: Files,
    broken: Files,
    mutants: Sequence[Mutant],
    take: Fingerprint,
) -> list[str]:
    """What of the square does not hold for programs that were disguised long ago."""
    try:
        plain = mutated(reference.files, *mutants)
    except (EditError, KeyError):
        return ["the reference is not the one that the challenge was made from"]
    try:
        faults = {
            "the repaired program does not compute what the reference does": (reference.files, repaired),
            "the broken program is not the reference with the bug": (plain, broken),
        }
        return [fault for fault, (one, two) in faults.items() if take(one) != take(two)]
    except BughuntError as error:
        return [error.message]
