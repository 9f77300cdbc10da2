import pytest
import torch

from bughunt.errors import MachineError
from bughunt.play.attempt import chosen_device


def test_auto_is_a_gpu_where_there_is_one_and_else_the_cpu():
    assert chosen_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    assert chosen_device("cpu") == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_asking_for_a_gpu_that_is_not_there_is_an_error_with_the_remedy():
    with pytest.raises(MachineError, match="no CUDA device") as caught:
        chosen_device("cuda")
    assert "--device cpu" in caught.value.remedy
