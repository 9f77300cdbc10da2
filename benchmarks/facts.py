"""What a run of a program is worth to the mutator: proposals with and without facts, and how many run.

Run: python benchmarks/facts.py [--sample N]

*dropped* are proposals that the facts refute, *added* those that need facts. Of a sample of what was there
anyway, of what was dropped and of what was added it is tried whether the program still runs: its whole small
configuration, or, where nothing trains, whether some of its behaviour tests pass.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Mapping, Sequence

from bughunt_mutator import Mutant, enumerate_tree, mutated

from bughunt import references
from bughunt.bugsets.evaluate import Evaluator, Finding, Job
from bughunt.bugsets.generate import facts_of

Site = tuple[str, Mutant]


def main() -> int:
    """Print the counts and the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sample", type=int, default=40, help="proposals of each group that are run")
    parser.add_argument("--workers", type=int, default=1)
    asked = parser.parse_args()
    with Evaluator(asked.workers) as evaluate:
        kept, dropped, added = groups(evaluate)
        print(f"without facts {len(kept) + len(dropped)}, with facts {len(kept) + len(added)}")
        print(f"dropped {len(dropped)}: {common(dropped)}")
        print(f"added {len(added)}: {common(added)}", flush=True)
        shares = [
            share(name, group, evaluate, asked.sample)
            for name, group in (("kept", kept), ("dropped", dropped), ("added", added))
        ]
    sizes = (len(kept), len(dropped), len(added))
    before = weighted(shares[:2], sizes[:2])
    after = weighted((shares[0], shares[2]), (sizes[0], sizes[2]))
    print(f"run, of all proposals: {before:.0%} without facts, {after:.0%} with facts")
    return 0 if after >= before and after >= 0.8 else 1


def groups(evaluate: Evaluator) -> tuple[list[Site], list[Site], list[Site]]:
    """Proposals that facts leave alone, that they refute, and that need them."""
    kept, dropped, added = list[Site](), list[Site](), list[Site]()
    for slug in references.slugs():
        reference = references.load(slug)
        without = {mutant.key: mutant for mutant in enumerate_tree(reference.files)}
        known = facts_of(reference, evaluate, print)
        with_ = {mutant.key: mutant for mutant in enumerate_tree(reference.files, None, known)}
        for key, mutant in {**without, **with_}.items():
            group = added if key not in without else kept if key in with_ else dropped
            group.append((slug, mutant))
    return kept, dropped, added


def share(name: str, group: Sequence[Site], evaluate: Evaluator, count: int) -> float:
    """The share of a sample that runs."""
    sample = random.Random(0).sample(list(group), min(count, len(group)))
    looks = evaluate([job(slug, mutated(references.load(slug).files, mutant)) for slug, mutant in sample])
    ran = [runs(look) for look in looks]
    print(f"{name}: {sum(ran)} of {len(ran)} sampled run")
    for (slug, mutant), fine, look in zip(sample, ran, looks, strict=True):
        if fine == (name == "dropped"):
            print(f"  {slug} line {mutant.line} {mutant.row}: {look.error[:90] or 'runs'}")
    sys.stdout.flush()
    return sum(ran) / max(1, len(ran))


def job(slug: str, files: Mapping[str, str]) -> Job:
    """Programs that train run in all their configurations; of the others the tests are run."""
    trains = references.load(slug).task.trains
    return Job(slug, "default", files, tests=not trains, fingerprint=trains)


def runs(look: Finding) -> bool:
    """Whether a program was not stopped."""
    return not look.error and bool(look.fingerprint or look.passed)


def weighted(shares: Sequence[float], sizes: Sequence[int]) -> float:
    """The share of the whole, from those of its parts."""
    return sum(one * size for one, size in zip(shares, sizes, strict=True)) / max(1, sum(sizes))


def common(group: Sequence[Site]) -> str:
    """The operators that a group comes from, most frequent first."""
    counts = Counter(mutant.operator for _, mutant in group)
    return ", ".join(f"{name} {count}" for name, count in counts.most_common(8))


if __name__ == "__main__":
    sys.exit(main())
