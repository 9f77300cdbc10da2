"""How often the judge is wrong: right programs that it refuses, wrong ones that it passes.

    python benchmarks/verdicts.py [--right N] [--wrong N] [--only SLUG ...] [--workers N] [--minutes N]
                                  [--thorough] [--report] [--write PAGE]

For each reference a challenge is made, N right files (written by people, then generated and proved equal) and
N wrong ones (written by people, the unfixed file, mutants proved to end up elsewhere, alone and with the
symptom tuned away, covered or made up). What was found stands in `measured/verdicts.jsonl`, under a hash of
all that it rests on: an interrupted or a larger run goes on where the last one stopped, and `--report` only
tells what is there. A third of the references is held out of tuning and told apart. `--thorough` measures
every curve, so that each layer has a say on each file. Exit status 1 where an error is left among those held
out.
"""

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import takewhile, zip_longest
from multiprocessing import get_context
from pathlib import Path

import torch
from proving.ground import File, Found, Ground, held_out, rests_on, verdicts
from proving.ledger import Ledger
from proving.page import page, told

from bughunt import references
from bughunt.judge.judge import Judge


def main() -> int:
    asked = _arguments()
    if not asked.report:
        measure(asked)
    found = tidied()
    text = page(found)
    print(text)
    if asked.write:
        asked.write.write_text(text, encoding="utf-8")
    return int(any(one.wrong_answer for one in found if held_out(one.reference)))


def measure(asked: argparse.Namespace) -> None:
    """Judge the files of each reference, those held out first and of these the quickest."""
    slugs = asked.only or sorted(references.slugs(), key=_turn)
    until = time.time() + 60 * asked.minutes
    with ProcessPoolExecutor(asked.workers, get_context("spawn")) as pool:
        jobs = {
            pool.submit(look, slug, asked.right, asked.wrong, asked.seed, asked.thorough, until): slug
            for slug in slugs
        }
        for job in as_completed(jobs):
            print(f"{jobs[job]:20} {len(job.result()):4} files", flush=True)
            tell_errors(job.result())


def _turn(slug: str) -> tuple[bool, float]:
    task = references.load(slug).task
    return not held_out(slug), task.cpu_seconds if task.trains else 0.0


def tidied() -> list[Found]:
    """Every verdict of this judge on the references as they are; the ledger keeps nothing else."""
    ledger = Ledger()
    every = [references.load(slug) for slug in references.slugs()]
    fresh = ledger.fresh({rests_on(one, tests=tests) for one in every for tests in (True, False)})
    ledger.write(fresh)
    return verdicts(fresh)


def look(slug: str, right: int, wrong: int, seed: int, thorough: bool, until: float) -> list[Found]:
    """The files of one reference, as many as there is time for; in a process of the pool."""
    if time.time() > until:
        return []
    torch.set_num_threads(1)
    reference = references.load(slug)
    with Judge() as judge:
        ground = Ground(judge, thorough=thorough)
        case, broken = ground.case(reference, seed)
        files = alternating(
            ground.right(reference, right, seed), ground.wrong(reference, broken, wrong, seed)
        )
        return [ground.judged(file, case) for file in takewhile(lambda _: time.time() < until, files)]


def alternating(first: Iterator[File], second: Iterator[File]) -> Iterator[File]:
    """One of each in turn, then what is left of the longer."""
    for pair in zip_longest(first, second):
        yield from (file for file in pair if file is not None)


def tell_errors(found: Iterable[Found]) -> None:
    for one in found:
        if one.wrong_answer:
            print(*told(one), sep="\n", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--right", type=int, default=5, help="right files for each reference")
    parser.add_argument("--wrong", type=int, default=5, help="wrong files for each reference")
    parser.add_argument("--only", nargs="*", help="references by slug")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=1e6, help="begin no file after so many")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--write", type=Path, help="the page to write")
    parser.add_argument("--report", action="store_true", help="judge nothing, tell what is known")
    parser.add_argument("--thorough", action="store_true", help="measure every curve")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
