"""One judge a GPU; no GPU is needed to see it, and no two tests name the same one."""

import os

import pytest

from bughunt.errors import MachineError
from bughunt.judge.devices import reserve

HERE = os.getpid()


@pytest.mark.parametrize(
    ("visible", "device", "name"),
    [
        ("", f"cuda:1{HERE}", f"1{HERE}"),
        (f"GPU-a{HERE},GPU-b{HERE}", "cuda:1", f"GPU-b{HERE}"),
        ("7", f"cuda:2{HERE}", f"2{HERE}"),
        (f"GPU-c{HERE}", "cuda", f"GPU-c{HERE}"),
    ],
    ids=["none are named", "by name", "fewer are named", "the first"],
)
def test_a_gpu_that_another_judge_has_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, visible: str, device: str, name: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    held = reserve(device)
    assert held is not None
    with held, pytest.raises(MachineError, match=f"the GPU {name}$"):
        reserve(device)
    again = reserve(device)
    assert again is not None
    again.close()


def test_gpus_are_apart_and_a_cpu_is_everybodys() -> None:
    first, second = reserve(f"cuda:3{HERE}"), reserve(f"cuda:4{HERE}")
    assert first is not None
    assert second is not None
    first.close()
    second.close()
    assert reserve("cpu") is None
