"""The worker: one forked process that loads a program and answers the judge's questions about it.

Objects that the program makes stay here under the numbers that the judge gave them; every answer is
plain data.
"""

import dataclasses
import importlib
import os
import random
import resource
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from bughunt.errors import MachineError
from bughunt.judge import wire
from bughunt.judge.failures import ContractError, describe
from bughunt.judge.models import (
    GradientWatch,
    Model,
    UpdateNorms,
    copy_into,
    parameters_of,
    state_of,
    total_norm,
)
from bughunt.judge.reading import UnreadableError, syntax_error

BROKEN = 70  # exit status of a worker whose own code failed
CHANNEL = 3
ENTRY = "train"
ENVIRONMENT = (
    "LANG",
    "PYTHONHASHSEED",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_HOME",
    "LD_LIBRARY_PATH",
)
SLICE_SECONDS = 1.0  # of updates in one answer


def run(channel: int, output: int, folder: Path, device: str) -> None:
    """Become the worker of one program: shed the zygote's ties and answer to the end."""
    take_places(channel, output)
    settle_in(folder)
    Worker(socket.socket(fileno=CHANNEL), folder, torch.device(device)).serve()
    os._exit(0)


def take_places(channel: int, output: int) -> None:
    """Keep four descriptors and close all others."""
    null = os.open("/dev/null", os.O_RDONLY)
    for source, place in ((null, 0), (output, 1), (output, 2), (channel, CHANNEL)):
        os.dup2(source, place)
    os.closerange(CHANNEL + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    # Line by line: what a killed program has said so far is not lost in a buffer.
    sys.stdout = open(1, "w", buffering=1, closefd=False, errors="replace")  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False, errors="replace")  # noqa: SIM115


def settle_in(folder: Path) -> None:
    """Make the folder the place where everything is looked for and written."""
    os.chdir(folder)
    environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    os.environ.clear()
    os.environ.update(environment, PATH="/usr/bin:/bin", HOME=str(folder), TMPDIR=str(folder))
    tempfile.tempdir = None  # else the folder that the zygote found is used
    sys.argv[:] = [f"{ENTRY}.py"]
    sys.path.insert(0, str(folder))


LEAST_FREE = 0.2  # of a GPU's memory, for a job to start
PATIENCE = 10.0  # seconds, until what the last job held is free


class Worker:
    """The program's objects and the operations on them; a method `op_x` answers the request `x`."""

    def __init__(self, channel: socket.socket, folder: Path, device: torch.device) -> None:
        self.channel, self.folder, self.device = channel, folder, device
        self.objects: dict[int, Any] = {}
        self.watches: dict[int, GradientWatch] = {}
        self.norms: dict[int, UpdateNorms] = {}
        if device.type == "cuda":
            prepare_cuda(device)

    def serve(self) -> None:
        """Answer request by request until the judge closes the channel."""
        while True:
            try:
                request = wire.receive(self.channel, handles=True)
            except EOFError:
                return
            frame = self.reply(request)
            wire.send_frame(self.channel, frame)

    def reply(self, request: Any) -> bytes:
        try:
            return wire.encode({"id": request["id"], "ok": self.answer(request)})
        except wire.UnsendableError as error:
            what = request["with"].get("name", request["op"])
            broken = ContractError(f"{what} gave {error}, which is not plain data")
            failure = describe(broken, self.folder)
        except BaseException as error:  # sys.exit in a program is an answer like any other
            failure = describe(error, self.folder)
        return wire.encode({"id": request["id"], "failed": failure})

    def answer(self, request: dict[str, Any]) -> object:
        for number in request["forget"]:
            self.objects.pop(number, None)
            self.watches.pop(number, None)
            self.norms.pop(number, None)
        operation = getattr(self, f"op_{request['op']}")
        return operation(**{name: self.arrive(v) for name, v in request["with"].items()})

    def arrive(self, value: Any) -> Any:
        """A value as the program gets it: handles resolved, tensors on the device."""
        if isinstance(value, wire.Handle):
            if value.number not in self.objects:
                raise ContractError(f"no object {value.number} in this program")
            return self.objects[value.number]
        if isinstance(value, torch.Tensor):
            return value.to(self.device)
        if isinstance(value, list | tuple):
            return type(value)(self.arrive(part) for part in value)
        if isinstance(value, dict):
            return {key: self.arrive(part) for key, part in value.items()}
        return value

    def number_of(self, model: Model) -> int:
        return next(number for number, held in self.objects.items() if held is model)

    # --- the contract ---

    def op_load(self, files: dict[str, str]) -> None:
        if mistake := syntax_error(files):
            raise UnreadableError(mistake)
        for name, text in files.items():
            path = self.folder / check_name(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        importlib.import_module(ENTRY)

    def op_seed(self, seed: int) -> None:
        torch.default_generator.manual_seed(seed)  # torch.manual_seed notes a stack for each absent device
        if self.device.type == "cuda":
            torch.cuda.manual_seed_all(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)

    def op_build(self, number: int, seed: int | None, config: dict[str, Any]) -> None:
        if seed is not None:
            self.op_seed(seed)
        model = self.export("build")(self.make_config(config))
        if isinstance(model, torch.nn.Module):
            model.to(self.device)
        self.objects[number] = model

    def op_train(
        self, number: int, model: Model, data: Any, seed: int, config: dict[str, Any], rng: str
    ) -> None:
        generator = np.random.default_rng(seed) if rng == "numpy" else torch.Generator().manual_seed(seed)
        items = self.export("train")(model, data, self.make_config(config), generator)
        if not isinstance(items, Iterator):
            kind = type(items).__name__
            raise ContractError(f"train has to be a generator, it returned a value of type {kind}")
        self.objects[number] = items

    def op_next(self, run: Iterator[object], count: int) -> tuple[list[float], bool]:
        """Up to `count` losses, fewer where the run ends or a second has passed, and whether it has ended."""
        losses: list[float] = []
        until = time.monotonic() + SLICE_SECONDS
        while len(losses) < count and time.monotonic() < until:
            try:
                losses.append(loss_of(next(run)))
            except StopIteration:
                return losses, True
        return losses, False

    def op_predict(self, model: Model, inputs: Any) -> object:
        with random_state_kept():
            return self.export("predict")(model, inputs)

    def op_call(self, name: str, args: list[Any], kwargs: dict[str, Any], number: int | None) -> object:
        with random_state_kept():
            return self.deliver(self.find(name)(*args, **kwargs), number)

    def op_call_method(self, target: Any, name: str, args: list[Any], number: int | None) -> object:
        with random_state_kept():
            return self.deliver(look_up(target, name, type(target).__name__)(*args), number)

    def op_config(self, config: dict[str, Any]) -> object:
        made = self.make_config(config)
        if not dataclasses.is_dataclass(made):
            raise ContractError("Config has to be a dataclass")
        return {field.name: getattr(made, field.name) for field in dataclasses.fields(made)}

    # --- the inside of a model ---

    def op_state(self, model: Model) -> object:
        return state_of(model)

    def op_load_state(self, model: Model, state: dict[str, Any]) -> None:
        with torch.no_grad():
            held = state_of(model)
            for name, value in state.items():
                if name not in held:
                    raise ContractError(f"the model has no parameter or buffer {name!r}")
                copy_into(held, name, value)

    def op_parameters(self, model: Model) -> list[str]:
        return list(parameters_of(model))

    def op_watch_gradients(self, model: Model, flag: bool) -> None:
        number = self.number_of(model)
        if number in self.watches:
            self.watches.pop(number).stop()
        if flag:
            self.watches[number] = GradientWatch(parameters_of(model))

    def op_gradients(self, model: Model) -> dict[str, torch.Tensor]:
        return dict(self.gradients_of(model))

    def op_statistics(self, model: Model) -> dict[str, Any]:
        norms = self.norms.setdefault(self.number_of(model), UpdateNorms())
        grads = list(self.gradients_of(model).values())
        return {"grad_norm": total_norm(grads), "params": norms.look(model)}

    def op_train_mode(self, model: Model, flag: bool) -> None:
        if isinstance(model, torch.nn.Module):
            model.train(flag)

    def op_is_training(self, model: Model) -> bool:
        return bool(getattr(model, "training", False))

    # --- help ---

    def gradients_of(self, model: Model) -> Mapping[str, torch.Tensor]:
        watch = self.watches.get(self.number_of(model))
        if watch is not None:
            return watch.last
        held = parameters_of(model)
        grads = {n: p.grad for n, p in held.items() if isinstance(p, torch.Tensor)}
        return {name: grad for name, grad in grads.items() if grad is not None}

    def export(self, name: str) -> Callable[..., Any]:
        return look_up(sys.modules[ENTRY], name, f"{ENTRY}.py")

    def find(self, dotted: str) -> Callable[..., Any]:
        """A function or method by its dotted name, from train.py or a module beside it."""
        *path, name = dotted.split(".")
        place: Any = sys.modules[ENTRY]
        if path and not hasattr(place, path[0]) and (self.folder / f"{path[0]}.py").exists():
            place = importlib.import_module(path.pop(0))
        for part in path:
            place = getattr(place, part, None)
        return look_up(place, name, f"{ENTRY}.py")

    def make_config(self, config: dict[str, Any]) -> object:
        return self.export("Config")(**config)

    def deliver(self, value: object, number: int | None) -> object:
        if number is None:
            return value
        self.objects[number] = value
        return None


def examine(name: str) -> None:
    """Nothing starts on a GPU that the job before has not left, or that cannot multiply; MachineError."""
    device = torch.device(name)
    if device.type != "cuda":
        return
    until = time.monotonic() + PATIENCE
    while (room := torch.cuda.mem_get_info(device))[0] < LEAST_FREE * room[1]:
        if time.monotonic() > until:
            raise MachineError(f"only {room[0] >> 20} MiB of the GPU are free", "see who uses it: nvidia-smi")
        time.sleep(0.1)
    ones = torch.ones(64, 64, device=device)
    if (ones @ ones).sum().item() != 64**3:
        raise MachineError("the GPU multiplies wrongly", "judge on the CPU: --device cpu")


def prepare_cuda(device: torch.device) -> None:
    torch.cuda.set_device(device)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Whatever is drawn inside is drawn again afterwards."""
    cuda = torch.cuda.is_initialized()
    kept = torch.get_rng_state(), np.random.get_state(), random.getstate()
    kept_cuda = torch.cuda.get_rng_state() if cuda else None
    try:
        yield
    finally:
        torch.set_rng_state(kept[0])
        np.random.set_state(kept[1])
        random.setstate(kept[2])
        if kept_cuda is not None:
            torch.cuda.set_rng_state(kept_cuda)


# --- answers and failures ---


def loss_of(item: object) -> float:
    """A reported loss as a number; NaN is one."""
    if isinstance(item, torch.Tensor | np.ndarray) and item.ndim == 0:
        item = item.item()
    if isinstance(item, int | float | np.integer | np.floating) and not isinstance(item, bool):
        return float(item)
    shape = f" of shape {tuple(item.shape)}" if isinstance(item, torch.Tensor | np.ndarray) else ""
    raise ContractError(
        f"train has to yield a number, it yielded a value of type {type(item).__name__}{shape}"
    )


def look_up(place: Any, name: str, where: str) -> Callable[..., Any]:
    found = getattr(place, name, None)
    if not callable(found):
        raise ContractError(f"{where} has no function or class {name!r}")
    return found


def check_name(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ContractError(f"{name!r} is not a name inside the program's folder")
    return name
