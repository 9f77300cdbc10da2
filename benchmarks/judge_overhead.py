"""What it costs to train a program through the judge's worker rather than in the process at hand.

`python benchmarks/judge_overhead.py [REPETITIONS]` prints CPU seconds, the worker's included, of one
training with 26 looks at held-out data: in this process, and through a `RemoteProgram` whose zygote is
warm; and of a job that does nothing, without a sandbox and in the best one that there is here. Exit status 1
if the median remote run exceeds 1.2 times the median bare run plus 0.3 CPU seconds, or the median job without
a sandbox 50 milliseconds.
"""

import statistics
import sys
import time
import types
from pathlib import Path

import torch
import torch._dynamo

from bughunt.judge.program import open_program
from bughunt.judge.sandbox.fence import Tier
from bughunt.judge.zygote import Zygote
from bughunt.task import probe_steps

PROGRAM = """
from dataclasses import dataclass
import torch
import torch.nn.functional as F
from torch import nn

@dataclass(frozen=True)
class Config:
    steps: int = 600

def build(cfg):
    return nn.Sequential(
        nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10)
    )

def train(model, data, cfg, rng):
    x, y = data
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(cfg.steps):
        model.train()
        rows = torch.randint(0, len(x), (48,), generator=rng)
        loss = F.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()

def predict(model, x):
    model.eval()
    with torch.no_grad():
        return model(x)
"""
STEPS, PROBES = 600, 25
JOBS, MOST_OF_A_JOB = 15, 0.05
Data = tuple[torch.Tensor, torch.Tensor]


def make_data() -> tuple[Data, Data]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(2000, 64, generator=draw)
    y = (x @ torch.randn(64, 10, generator=draw)).argmax(1)
    return (x[:1500], y[:1500]), (x[1500:], y[1500:])


def look(answers: torch.Tensor, truth: torch.Tensor) -> float:
    return torch.nn.functional.cross_entropy(answers, truth).item()


def bare(seen: Data, held_out: Data) -> tuple[float, list[float]]:
    """CPU seconds and curve of a training in this process."""
    started = own_seconds()
    program = types.ModuleType("train")
    sys.modules["train"] = program
    exec(compile(PROGRAM, "train.py", "exec"), program.__dict__)
    torch.manual_seed(0)
    model = program.build(program.Config())
    run = program.train(model, seen, program.Config(), torch.Generator().manual_seed(1))
    curve, done = [], 0
    for step in probe_steps(STEPS, PROBES):
        for _ in range(step - done):
            next(run)
        done = step
        curve.append(look(program.predict(model, held_out[0]), held_out[1]))
    return own_seconds() - started, curve


def remote(zygote: Zygote, seen: Data, held_out: Data) -> tuple[float, list[float]]:
    """CPU seconds, this process and the worker together, and curve of a training in a worker."""
    started = own_seconds()
    with open_program(zygote, {"train.py": PROGRAM}) as program:
        model = program.build(0)
        run = program.train(model, seen, 1)
        curve, done = [], 0
        for step in probe_steps(STEPS, PROBES):
            run.next(step - done)
            done = step
            curve.append(look(program.predict(model, held_out[0]), held_out[1]))
            program.statistics(model)
    return own_seconds() - started + (program.cpu_seconds or 0.0), curve


def job(zygote: Zygote) -> float:
    """CPU seconds of a worker that loads a program and is closed: this process, the zygote and the worker."""
    started = own_seconds() + seconds_of(zygote)
    with open_program(zygote, {"train.py": PROGRAM}) as program:
        program.seed(0)
    return own_seconds() + seconds_of(zygote) - started + (program.cpu_seconds or 0.0)


def seconds_of(zygote: Zygote) -> float:
    """What the zygote itself has used, without its workers."""
    used = Path(f"/proc/{zygote.process.pid}/schedstat").read_text(encoding="utf-8").split()[0]
    return int(used) / 1e9


def own_seconds() -> float:
    return time.process_time()


def main(repetitions: int) -> int:
    torch.set_num_threads(1)
    seen, held_out = make_data()
    bare(seen, held_out)  # the first run pays for what torch loads late
    here, there = [], []
    with Zygote() as zygote:
        remote(zygote, seen, held_out)
        for _ in range(repetitions):
            spent, expected = bare(seen, held_out)
            here.append(spent)
            spent, curve = remote(zygote, seen, held_out)
            there.append(spent)
            if curve != expected:
                sys.exit("the two trainings differ")
    direct, through = statistics.median(here), statistics.median(there)
    print(f"bare   {direct:.3f} CPU-s ({min(here):.3f}-{max(here):.3f})")
    print(f"remote {through:.3f} CPU-s ({min(there):.3f}-{max(there):.3f})")
    print(f"ratio  {through / direct:.2f}, bound 1.2 x + 0.3 s = {1.2 * direct + 0.3:.3f}")
    plain = tell_jobs("no sandbox", Tier.S0)
    tell_jobs("the best sandbox", Tier.S2)
    return through > 1.2 * direct + 0.3 or plain > MOST_OF_A_JOB


def tell_jobs(title: str, most: Tier) -> float:
    """The median CPU seconds of a job in one tier, which is printed."""
    with Zygote(most=most) as zygote:
        job(zygote)
        spent = [job(zygote) for _ in range(JOBS)]
        tier = zygote.tier.name
    median = statistics.median(spent)
    least, most_of_all = (1000 * edge(spent) for edge in (min, max))
    print(f"job    {1000 * median:.0f} ms of CPU ({least:.0f}-{most_of_all:.0f}), {title}: {tier}")
    return median


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
