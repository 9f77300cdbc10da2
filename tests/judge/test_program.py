"""A program in a worker answers as it would in this process, and its failures are told apart."""

import math
import pickle
import random
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bughunt.judge.program import ProgramError, RemoteProgram, open_program
from bughunt.judge.zygote import Zygote
from bughunt.task import Program

CLASSIFIER = """
from dataclasses import dataclass
import torch
import torch.nn.functional as F
from torch import nn

@dataclass(frozen=True)
class Config:
    hidden: int = 5
    steps: int = 6
    sizes: tuple = (1, 2)

def build(cfg):
    return nn.Sequential(nn.Linear(4, cfg.hidden), nn.Dropout(0.2), nn.Linear(cfg.hidden, 3))

def train(model, data, cfg, rng):
    x, y = data
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(cfg.steps):
        rows = torch.randint(0, len(x), (7,), generator=rng)
        loss = F.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        yield loss.item()
    print("trained")

def predict(model, x):
    model.eval()
    return model(x)

def noise(count):
    return torch.rand(count), torch.nn.functional.dropout(torch.ones(count))

def total(*values, scale=1.0):
    return scale * sum(values)

class Environment:
    def __init__(self, size):
        self.size = size
    def step(self, action):
        self.size += action
        return self.size, {"done": self.size > 3}
"""

DESCENT = """
from dataclasses import dataclass
import numpy as np

@dataclass(frozen=True)
class Config:
    lr: float = 0.25

def build(cfg):
    return {"w": np.random.normal(size=2), "count": np.zeros(())}

def train(model, data, cfg, rng):
    for _ in range(3):
        model["w"] -= cfg.lr * model["w"]
        yield np.float64(rng.normal())

def predict(model, x):
    return x @ model["w"]
"""


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as zygote:
        yield zygote


Opener = Callable[..., RemoteProgram]


@pytest.fixture
def opened(zygote: Zygote) -> Iterator[Opener]:
    programs: list[RemoteProgram] = []

    def opener(text: str = CLASSIFIER, **options: object) -> RemoteProgram:
        programs.append(open_program(zygote, {"train.py": text}, **options))
        return programs[-1]

    yield opener
    for program in programs:
        program.close()


def failure(act: Callable[[], object]) -> ProgramError:
    with pytest.raises(ProgramError) as caught:
        act()
    return caught.value


def some_data() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    return torch.randn(40, 4, generator=draw), torch.randint(0, 3, (40,), generator=draw)


def test_a_remote_program_is_a_program(opened: Opener) -> None:
    program: Program = opened()
    wanted = [name for name in vars(Program) if not name.startswith("_")]
    assert all(callable(getattr(program, name)) for name in wanted)


def test_training_is_that_of_the_same_lines_in_this_process(opened: Opener) -> None:
    data = some_data()
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.2), nn.Linear(5, 3))
    rng = torch.Generator().manual_seed(4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    expected = []
    for _ in range(6):
        rows = torch.randint(0, 40, (7,), generator=rng)
        loss = F.cross_entropy(model(data[0][rows]), data[1][rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected.append(loss.item())

    program = opened()
    theirs = program.build(3)
    run = program.train(theirs, data, 4)
    assert run.next(2) + run.next(10) == expected
    assert run.finished
    assert run.next() == []
    for name, value in model.state_dict().items():
        assert torch.equal(program.state(theirs)[name], value)
    assert torch.equal(program.predict(theirs, data[0]), model.eval()(data[0]))


def test_nothing_runs_before_the_first_next(opened: Opener) -> None:
    program = opened()
    model = program.build(0)
    before = program.state(model)
    run = program.train(model, some_data(), 0)
    assert all(torch.equal(program.state(model)[name], value) for name, value in before.items())
    run.next()
    assert not torch.equal(program.state(model)["0.weight"], before["0.weight"])


def test_a_run_that_has_given_its_last_loss_is_finished_only_after_what_follows_the_loop(
    opened: Opener,
) -> None:
    program = opened()
    run = program.train(program.build(0), some_data(), 0)
    assert len(run.next(6)) == 6
    assert not run.finished
    assert run.next() == []
    assert run.finished
    program.close()
    assert program.output == "trained\n"


def test_overrides_reach_the_config(opened: Opener) -> None:
    program = opened()
    assert program.config(steps=2) == {"hidden": 5, "steps": 2, "sizes": (1, 2)}
    model = program.build(hidden=9)
    assert program.state(model)["0.weight"].shape == (9, 4)
    assert len(program.train(model, some_data(), 0, steps=2).next(5)) == 2


def test_an_unknown_field_of_the_config_breaks_the_contract(opened: Opener) -> None:
    error = failure(lambda: opened().build(colour=1))
    assert (error.kind, error.place) == ("contract", "")
    assert "colour" in error.message


def test_seeding_seeds_all_three_generators(opened: Opener) -> None:
    program = opened(
        CLASSIFIER + "import random, numpy\n"
        "def draw():\n    return torch.rand(()).item(), numpy.random.rand(), random.random()\n"
    )
    program.seed(2**61 + 5)
    torch.manual_seed(2**61 + 5)
    expected = torch.rand(()).item(), np.random.RandomState(5).rand(), random.Random(2**61 + 5).random()
    assert program.call("draw") == expected


def test_predict_and_call_leave_the_random_state_and_the_train_mode_alone(opened: Opener) -> None:
    program = opened(CLASSIFIER.replace("    model.eval()\n", ""))
    model = program.build(0)
    program.seed(5)
    first = program.predict(model, torch.ones(50, 4))
    drawn = program.call("noise", 9)
    assert torch.equal(program.predict(model, torch.ones(50, 4)), first)
    assert torch.equal(program.call("noise", 9)[0], drawn[0])
    assert program.is_training(model)


def test_predict_may_change_the_train_mode(opened: Opener) -> None:
    program = opened()
    model = program.build(0)
    assert program.is_training(model)
    program.predict(model, torch.ones(1, 4))
    assert not program.is_training(model)
    program.train_mode(model, True)
    assert program.is_training(model)


def test_models_and_kept_objects_may_be_arguments(opened: Opener) -> None:
    program = opened()
    assert program.call("total", 1, 2.5, scale=2.0) == 7.0
    model, x = program.build(1), torch.ones(2, 4)
    program.train_mode(model, False)
    assert torch.equal(program.call("predict", model, x), program.call_method(model, "__call__", x))
    world = program.call("Environment", 2, keep=True)
    assert program.call_method(world, "step", 1) == (3, {"done": False})
    assert program.call("Environment.step", world, 1) == (4, {"done": True})


def test_a_handle_means_nothing_to_another_program(opened: Opener) -> None:
    model = opened().build(0)
    assert failure(lambda: opened().state(model)).kind == "contract"


def test_what_nobody_holds_is_forgotten(opened: Opener) -> None:
    program = opened(
        CLASSIFIER + "import gc\n"
        "class Kept: pass\n"
        "def count():\n    return sum(type(o) is Kept for o in gc.get_objects())\n"
    )
    kept = [program.call("Kept", keep=True) for _ in range(5)]
    assert program.call("count") == 5
    del kept[1:]
    assert program.call("count") == 1


def test_state_goes_in_by_name_and_in_place(opened: Opener) -> None:
    program = opened()
    model = program.build(0)
    program.load_state(model, {"2.bias": torch.tensor([1.0, 2.0, 3.0])})
    assert program.state(model)["2.bias"].tolist() == [1, 2, 3]
    assert program.parameters(model) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert failure(lambda: program.load_state(model, {"3": torch.ones(1)})).kind == "contract"
    assert failure(lambda: program.load_state(model, {"2.bias": torch.ones(1)})).kind == "contract"


def test_gradients_are_those_last_accumulated_whatever_is_zeroed_later(opened: Opener) -> None:
    program, data = opened(CLASSIFIER.replace("Dropout(0.2)", "Identity()")), some_data()
    model = program.build(0)
    program.watch_gradients(model, True)
    held = program.state(model)
    program.train(model, data, 4).next()

    rows = torch.randint(0, 40, (7,), generator=torch.Generator().manual_seed(4))
    twin = nn.Sequential(nn.Linear(4, 5), nn.Identity(), nn.Linear(5, 3))
    twin.load_state_dict(held)
    F.cross_entropy(twin(data[0][rows]), data[1][rows]).backward()
    found = program.gradients(model)
    assert set(found) == set(held)
    for name, parameter in twin.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad)

    norm = math.sqrt(sum(float((p.grad**2).sum()) for p in twin.parameters()))
    assert program.statistics(model)["grad_norm"] == pytest.approx(norm, rel=1e-5)
    program.watch_gradients(model, False)
    assert program.gradients(model) == {}


def test_statistics_tell_norms_and_how_far_parameters_moved(opened: Opener) -> None:
    program = opened()
    model = program.build(0)
    before, first = program.state(model), program.statistics(model)["params"]
    program.train(model, some_data(), 0).next(3)
    after, second = program.state(model), program.statistics(model)["params"]
    for name in before:
        assert first[name] == pytest.approx([before[name].norm().item(), 0.0], rel=1e-5)
        moved = (after[name] - before[name]).norm().item()
        assert second[name] == pytest.approx([after[name].norm().item(), moved], rel=1e-4)


def test_a_model_may_be_a_dict_of_arrays(opened: Opener) -> None:
    program = opened(DESCENT, rng="numpy")
    model = program.build(7)
    start = np.random.RandomState(7).normal(size=2)
    np.testing.assert_array_equal(program.state(model)["w"], start)
    run = program.train(model, None, 3)
    rng = np.random.default_rng(3)
    assert run.next(9) == [rng.normal() for _ in range(3)]
    np.testing.assert_allclose(program.state(model)["w"], start * 0.75**3)
    assert program.statistics(model)["params"]["w"][0] == pytest.approx(
        np.linalg.norm(start) * 0.75**3, rel=1e-6
    )
    program.load_state(model, {"w": np.array([2.0, 3.0])})
    assert program.predict(model, np.array([[1.0, 10.0]])).tolist() == [32.0]
    assert program.gradients(model) == {}
    assert program.parameters(model) == ["w", "count"]


def test_modules_beside_train_are_importable_and_callable(zygote: Zygote) -> None:
    files = {
        "train.py": "import parts.model\nfrom helper import double\n",
        "helper.py": "def double(x):\n    return 2 * x\n",
        "other.py": "def triple(x):\n    return 3 * x\n",
        "parts/__init__.py": "",
        "parts/model.py": "def fail():\n    raise KeyError('é')\n",
    }
    with open_program(zygote, files) as program:
        assert program.call("double", 4) == program.call("helper.double", 4) == 8
        assert program.call("other.triple", 4) == 12
        error = failure(lambda: program.call("parts.model.fail"))
        assert (error.kind, error.place) == ("error", "parts/model.py:2 in fail")


@pytest.mark.parametrize("name", ["../evil.py", "/tmp/evil.py", "a/../../b.py"])
def test_a_file_outside_the_folder_is_refused(zygote: Zygote, name: str) -> None:
    error = failure(lambda: open_program(zygote, {"train.py": "", name: ""}))
    assert error.kind == "contract"


def test_a_nan_loss_is_a_loss(opened: Opener) -> None:
    program = opened(CLASSIFIER.replace("yield loss.item()", "yield torch.tensor(float('nan'))"))
    assert all(map(math.isnan, program.train(program.build(0), some_data(), 0).next(3)))


def broken(old: str, new: str) -> str:
    assert old in CLASSIFIER
    return CLASSIFIER.replace(old, new)


CONTRACT = {
    "no build": broken("def build", "def construct"),
    "no train": broken("def train", "def training"),
    "no predict": broken("def predict", "def prediction"),
    "no Config": broken("class Config", "class Settings"),
    "build takes nothing": broken("def build(cfg)", "def build()"),
    "build gives text": broken("    return nn.Sequential", "    return 'model'; nn.Sequential"),
    "train is no generator": broken("        yield loss.item()\n", ""),
    "loss is text": broken("yield loss.item()", "yield 'low'"),
    "loss is a vector": broken("yield loss.item()", "yield torch.ones(2)"),
    "loss is nothing": broken("yield loss.item()", "yield"),
    "predict gives a module": broken("return model(x)", "return model"),
    "predict gives objects": broken("return model(x)", "return [object()]"),
}


@pytest.mark.parametrize("text", CONTRACT.values(), ids=CONTRACT)
def test_a_name_or_answer_of_the_wrong_kind_breaks_the_contract(opened: Opener, text: str) -> None:
    def use() -> None:
        program = opened(text)
        model = program.build(0)
        program.state(model)
        program.train(model, some_data(), 0).next()
        program.predict(model, torch.ones(1, 4))

    error = failure(use)
    assert error.kind == "contract"
    assert error.message


def test_the_place_of_an_error_is_the_programs_own_line(opened: Opener) -> None:
    program = opened(broken("(4, cfg.hidden)", "(3, cfg.hidden)"))
    model = program.build(0)
    error = failure(program.train(model, some_data(), 0).next)
    assert (error.kind, error.place) == ("error", "train.py:21 in train")
    assert error.message.startswith("RuntimeError: mat1 and mat2")
    assert str(error).endswith("(train.py:21 in train)")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert program.state(model)["0.weight"].shape == (5, 3)  # it goes on answering


@pytest.mark.parametrize(
    ("text", "kind", "message", "place"),
    [
        ("x = 1\nx +\n", "syntax", "train.py line 3: SyntaxError", ""),
        ("import nonsense_module\n", "error", "ModuleNotFoundError", "train.py:2"),
        ("def f():\n    1 / 0\nf()\n", "error", "ZeroDivisionError", "train.py:3 in f"),
        ("def f():\n    f()\nf()\n", "error", "RecursionError", "train.py:3 in f"),
        ("import sys\nsys.exit(0)\n", "exit", "SystemExit: 0", "train.py:3"),
        ("import os\nos._exit(0)\n", "exit", "status 0", ""),
        ("import os\nos.abort()\n", "error", "the program crashed (SIG", ""),
        ("raise KeyboardInterrupt\n", "error", "KeyboardInterrupt", "train.py:2"),
        ("raise BaseException('\\ud800')\n", "error", "BaseException: ?", "train.py:2"),
    ],
    ids=lambda value: value if value in ("error", "exit") else None,
)
def test_a_file_that_does_not_load_says_why_and_where(
    opened: Opener, text: str, kind: str, message: str, place: str
) -> None:
    error = failure(lambda: opened("print('before')\n" + text))
    assert (error.kind, error.place) == (kind, place)
    assert message in error.message
    assert error.output.startswith("before\n") or kind == "syntax"


def test_a_dead_program_stays_dead(opened: Opener) -> None:
    program = opened(CLASSIFIER + "import os\n")
    assert failure(lambda: program.call("os._exit", 3)).kind == "exit"
    assert "status 3" in failure(lambda: program.build(0)).message


def test_a_worker_knows_nothing_of_the_judges_environment(
    zygote: Zygote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUGHUNT_CANARY", "secret")
    text = (
        "import os, sys\n"
        "def look():\n"
        "    return dict(os.environ), sys.argv, open('/proc/self/environ').read()\n"
    )
    with Zygote() as fresh, open_program(fresh, {"train.py": text}) as program:
        environment, argv, original = program.call("look")
    assert "secret" not in str(environment) + original
    assert argv == ["train.py"]
    with open_program(zygote, {"train.py": "import torch"}) as program:
        assert program.call("torch.get_num_threads") == 1
        assert program.call("torch.cuda.is_available") is False
