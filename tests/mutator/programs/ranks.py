"""Two processes that train one model: wrapped for it, and by hand."""

from __future__ import annotations

import multiprocessing
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

WORLD = 2


def rows() -> TensorDataset:
    x = torch.linspace(-1, 1, 30, dtype=torch.float64).reshape(10, 3)
    return TensorDataset(x, x.sin().sum(dim=1, keepdim=True) * torch.arange(1, 11)[:, None])


def wrapped(rank: int) -> Tensor:
    torch.manual_seed(0)
    net = nn.Linear(3, 1).to(torch.float64)
    model = DistributedDataParallel(net)
    sgd = torch.optim.SGD(model.parameters(), lr=0.05)
    sampler: DistributedSampler[tuple[Tensor, ...]] = DistributedSampler(rows(), WORLD, rank, seed=3)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        for x, y in DataLoader(rows(), batch_size=2, sampler=sampler):
            sgd.zero_grad()
            F.mse_loss(model(x), y).backward()
            sgd.step()
    return net.weight.detach().flatten()


def by_hand(rank: int, seed: int) -> Tensor:
    torch.manual_seed(0)
    net = nn.Linear(3, 1).double()
    torch.manual_seed(seed + rank)
    sgd = torch.optim.SGD(net.parameters(), lr=0.05)
    x, y = rows().tensors
    for _ in range(4):
        mine = torch.randint(0, len(x), (3,))
        sgd.zero_grad()
        F.mse_loss(net(x[mine]), y[mine]).backward()
        for p in net.parameters():
            dist.all_reduce(p.grad)
            p.grad /= dist.get_world_size()
        clip_grad_norm_(net.parameters(), 9.0)
        sgd.step()
    return net.weight.detach().flatten()


def work(rank: int, folder: str, answers: Connection) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", WORLD)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=WORLD)
    weights = torch.cat([wrapped(rank), by_hand(rank, 11)])
    answers.send(weights.tolist())
    dist.destroy_process_group()


def fingerprint() -> list[float]:
    context = multiprocessing.get_context("fork")
    ends = [context.Pipe(duplex=False) for _ in range(WORLD)]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).mkdir(exist_ok=True)
        team = [context.Process(target=work, args=(rank, folder, ends[rank][1])) for rank in range(WORLD)]
        for one in team:
            one.start()
        for one in team:
            one.join(20)
        found = [end.recv() if end.poll(0) else [] for end, _ in ends]
        for one in team:
            one.kill()
    return [number for numbers in found for number in numbers]
