"""Programs that train do so on a GPU unchanged: as many steps, the same band at the end."""

from collections.abc import Iterator

import pytest
import torch

from bughunt import references
from bughunt.judge.judge import Judge

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
TRAINED = [slug for slug in references.slugs() if references.load(slug).task.trains]


@pytest.fixture(scope="module")
def judges() -> Iterator[dict[str, Judge]]:
    with Judge(device="cuda") as gpu, Judge() as cpu:
        yield {"cuda": gpu, "cpu": cpu}


@pytest.mark.parametrize("slug", TRAINED)
def test_a_program_ends_in_its_band_on_a_gpu(judges: dict[str, Judge], slug: str) -> None:
    reference = references.load(slug)
    low, high = reference.task.band
    first = next(iter(reference.task.configurations))
    curve = judges["cuda"].measure(reference.files, reference.task, 0, first)
    assert low <= curve.metrics[-1] <= high


@pytest.mark.parametrize("slug", TRAINED)
def test_every_configuration_takes_steps_on_a_gpu(judges: dict[str, Judge], slug: str) -> None:
    reference = references.load(slug)
    for configuration, config in reference.task.configurations.items():
        reported = {}
        for device, judge in judges.items():
            with judge.open(reference.files, reference.task) as program:
                model = program.build(seed=0, **config)
                run = program.train(model, reference.task.data(0).train, 0, **config)
                reported[device] = run.next(2)
        assert len(reported["cuda"]) == len(reported["cpu"]), configuration
        assert torch.tensor(reported["cuda"]).isfinite().all(), configuration
