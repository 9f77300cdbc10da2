"""Hostile bytes against the decoder of frames: each is a value, a refusal, or the end of the line.

`python benchmarks/fuzz_frames.py [INPUTS] [SEED]` draws inputs (100,000) as the tests do in a small sample.
Exit status 1 at the first that raises anything else, and if one takes longer than a second of CPU.
"""

import sys
import time
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "judge"))

from hostile_frames import check, frames


def main(inputs: int, number: int) -> int:
    outcomes: dict[str, int] = {}
    slowest = 0.0

    @seed(number)
    @settings(
        max_examples=inputs,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(frames)
    def fuzz(raw: bytes) -> None:
        nonlocal slowest
        begun = time.process_time()
        outcome = check(raw)
        slowest = max(slowest, time.process_time() - begun)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1

    begun = time.process_time()
    fuzz()
    total = sum(outcomes.values())
    told = ", ".join(f"{name} {count}" for name, count in sorted(outcomes.items()))
    print(
        f"{total} frames in {time.process_time() - begun:.0f} CPU-s: {told}; slowest {1000 * slowest:.0f} ms"
    )
    return slowest > 1.0 or total < inputs


if __name__ == "__main__":
    words = [int(word) for word in sys.argv[1:]]
    sys.exit(main(*[*words, *[100_000, 0][len(words) :]]))
