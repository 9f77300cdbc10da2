"""Hostile programs on a GPU cost themselves alone. Nothing fences them from the device's driver."""

from collections.abc import Iterator

import pytest
import torch

from bughunt.judge.limits import Limits
from bughunt.judge.program import ProgramError, open_program
from bughunt.judge.zygote import Zygote

pytestmark = [
    pytest.mark.attack,
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
HONEST = """
import torch

def free():
    return torch.cuda.mem_get_info()[0]

def double(x):
    return 2 * x
"""
SHORT = Limits(reply_seconds=20)


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote("cuda") as zygote:
        yield zygote


@pytest.fixture(autouse=True)
def _the_next_program_is_served(zygote: Zygote) -> Iterator[None]:
    before = free_bytes(zygote)
    yield
    assert free_bytes(zygote) > 0.95 * before


def free_bytes(zygote: Zygote) -> int:
    with open_program(zygote, {"train.py": HONEST}, device="cuda") as program:
        assert program.call("double", torch.ones(2)).tolist() == [2, 2]
        return int(program.call("free"))


@pytest.mark.parametrize(
    "body",
    [
        "held = []\n    while True: held.append(torch.empty(1 << 28, device='cuda'))",
        "torch.zeros(3, device='cuda')[torch.tensor([1 << 20], device='cuda')].cpu()",
        "x = torch.ones(4096, 4096, device='cuda')\n    while True: x = x @ x",
        "torch.cuda._sleep(1 << 62)\n    torch.cuda.synchronize()",
    ],
    ids=["all memory", "illegal access", "endless work", "endless kernel"],
)
def test_a_program_that_abuses_the_gpu_fails_alone(zygote: Zygote, body: str) -> None:
    text = f"import torch\ndef attack():\n    {body}\n"
    with (
        open_program(zygote, {"train.py": text}, device="cuda", limits=SHORT) as program,
        pytest.raises(ProgramError),
    ):
        program.call("attack")
