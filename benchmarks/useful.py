"""What share of mutants could ship as a challenge: ours beside mutmut's, on the same programs.

Run: python benchmarks/useful.py [--sample N] [--mutmut PYTHON]

A mutant is *useful* when its program runs and fails some behaviour tests but not all. One that fails none is
*equivalent* where the pinned differential does not tell it from the reference either. PYTHON is one that has
mutmut:

    python -m venv /tmp/mutmut && /tmp/mutmut/bin/pip install mutmut

What has been found is remembered, so a run that was interrupted goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from bughunt_mutator import enumerate_mutants

from bughunt import references
from bughunt.bugsets.evaluate import Evaluator, Finding, Job
from bughunt.bugsets.generate import facts_of

PROGRAMS = ("linear-models", "numpy-mlp", "grid-vi")
KINDS = ("unparsable", "stops", "all tests fail", "equivalent", "no test fails", "useful")
MUTMUT = """
import json, sys
from mutmut.mutation.file_mutation import create_mutations
module, mutations, *_ = create_mutations("train.py", sys.stdin.read())
print(json.dumps([module.deep_replace(m.original_node, m.mutated_node).code for m in mutations]))
"""


def main() -> int:
    """Print one line a program and tool; fails where ours are not more often useful."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sample", type=int, default=40, help="mutants of each tool on each program")
    parser.add_argument("--mutmut", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--program", action="append", choices=references.slugs(), dest="programs")
    asked = parser.parse_args()
    totals = {"bughunt": Counter[str](), "mutmut": Counter[str]()}
    print(f"{'program':16}{'tool':10}{'mutants':>8}{'sampled':>8}" + "".join(f"{k:>16}" for k in KINDS))
    with Evaluator(asked.workers) as evaluate:
        for slug in asked.programs or PROGRAMS:
            text = references.load(slug).files["train.py"]
            for tool, texts in (("bughunt", ours(slug, evaluate)), ("mutmut", theirs(text, asked.mutmut))):
                sample = random.Random(0).sample(texts, min(asked.sample, len(texts)))
                counts = Counter(kinds(slug, sample, evaluate))
                totals[tool] += counts
                line(slug, tool, len(texts), counts)
    for tool, counts in totals.items():
        line("all", tool, None, counts)
    ours_, theirs_ = (rate(counts) for counts in totals.values())
    return 0 if ours_ > theirs_ else 1


def ours(slug: str, evaluate: Evaluator) -> list[str]:
    """The texts of all mutants of a program's first file."""
    reference = references.load(slug)
    text, known = reference.files["train.py"], facts_of(reference, evaluate)
    return [mutant.apply(text) for mutant in enumerate_mutants(text, facts=known.get("train.py", {}))]


def theirs(text: str, python: str) -> list[str]:
    """The texts of all mutants that mutmut makes; none where it is not installed."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "setup.cfg").write_text("[mutmut]\nsource_paths=.\n", encoding="utf-8")
        command = [python, "-c", MUTMUT]
        done = subprocess.run(command, input=text, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"mutmut: {done.stderr.strip().rpartition(chr(10))[2]}", file=sys.stderr)
        return []
    return sorted(set(json.loads(done.stdout)) - {text})


def kinds(slug: str, texts: Sequence[str], evaluate: Evaluator) -> list[str]:
    """What each of the mutants is good for."""
    files = references.load(slug).files
    jobs = [job(slug, {**files, "train.py": text}) for text in texts if _compiles(text)]
    broken = ["unparsable"] * (len(texts) - len(jobs))
    return [*broken, *(kind(look) for look in evaluate(jobs))]


def job(slug: str, files: Mapping[str, str]) -> Job:
    """The tests, and where something trains the differential and a run to the end, which says if it stops."""
    trains = references.load(slug).task.trains
    return Job(slug, "default", files, tests=True, differential=trains, curve_seeds=(0,) if trains else ())


def kind(look: Finding) -> str:
    """One of `KINDS`."""
    if look.error:
        return "stops"
    if look.failed:
        return "useful" if look.passed else "all tests fail"
    return "equivalent" if look.equal is not False else "no test fails"


def _compiles(text: str) -> bool:
    try:
        compile(text, "train.py", "exec", dont_inherit=True)
    except SyntaxError:
        return False
    return True


def rate(counts: Counter[str]) -> float:
    """The share of useful mutants."""
    return counts["useful"] / max(1, counts.total())


def line(slug: str, tool: str, mutants: int | None, counts: Counter[str]) -> None:
    """A row of the table; the useful ones as a share too."""
    known = "" if mutants is None else str(mutants)
    shown = "".join(f"{counts[kind]:>16}" for kind in KINDS)
    print(f"{slug:16}{tool:10}{known:>8}{counts.total():>8}{shown} {rate(counts):>5.0%}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
