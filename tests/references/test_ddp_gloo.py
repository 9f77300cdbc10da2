"""The ranks of `ddp-gloo` as processes that talk over gloo: what they learn is what threads learn."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bughunt import references
from bughunt.judge.judge import Judge
from bughunt.references.data.glyphs import glyphs

SMALL = {"steps": 12, "batch": 7, "warmup": 3, "bucket": 500}
SEED = 4
ROWS = 61

# A rank leaves by `os._exit`: while an interpreter ends, a thread of gloo that lets go of a tensor aborts the
# process, and `destroy_process_group` does not end those threads (PyTorch 2.13; pytorch/pytorch#179291).
RANK = """\
import os
import sys
import torch
from torch import distributed as dist

torch.set_num_threads(1)
rank, world, rendezvous, given, place = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
sys.path.insert(0, given)
import train

job = torch.load(f"{given}/job.pt", weights_only=True)
cfg = train.Config(**job["config"])
model = train.build(cfg)
model.load_state_dict(job["state"])
dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world)
losses = list(train.rank_steps(model[rank], job["data"], cfg, job["seed"], dist.group.WORLD))
torch.save({"losses": losses, "state": model[rank].state_dict()}, f"{place}/{rank}.pt")
os._exit(0)
"""


def in_processes(folder: Path, job: dict[str, object], world: int) -> list[dict[str, Any]]:
    """What each rank of a real process group ends with."""
    for name, text in references.load("ddp-gloo").files.items():
        (folder / name).write_text(text)
    torch.save(job, folder / "job.pt")
    words = [str(world), str(folder / "rendezvous"), str(folder), str(folder)]
    started = [subprocess.Popen([sys.executable, "-c", RANK, str(rank), *words]) for rank in range(world)]
    assert [process.wait(timeout=300) for process in started] == [0] * world
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(world)]


def in_threads(
    config: dict[str, object], data: dict[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor], list[float]]:
    """Weights before and after, and the losses, as the judge sees them."""
    reference = references.load("ddp-gloo")
    with Judge() as judge, judge.open(reference.files, reference.task) as program:
        model = program.build(seed=SEED, **config)
        before = program.state(model)
        losses = program.train(model, data, SEED, **config).next(100)
        return before, program.state(model), losses


def seed_of_the_shuffle() -> int:
    """What the training draws first from its generator."""
    return int(torch.randint(2**31, (), generator=torch.Generator().manual_seed(SEED)))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["wrapper", "hooks"])
def test_processes_over_gloo_end_with_the_weights_of_threads(tmp_path: Path, way: str) -> None:
    config, data = {**SMALL, "averaging": way}, glyphs(ROWS, SEED)
    before, after, losses = in_threads(config, data)
    job = {"config": config, "data": data, "seed": seed_of_the_shuffle(), "state": before}
    found = in_processes(tmp_path, job, world=2)
    for rank, one in enumerate(found):
        assert one["losses"] == losses
        for name, value in one["state"].items():
            assert torch.equal(value, after[f"{rank}.{name}"]), name
