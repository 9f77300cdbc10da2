"""The judge's stand-in for a program that runs in a worker process."""

import itertools
import signal
import weakref
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal, get_args

from bughunt.errors import BughuntError
from bughunt.judge import wire
from bughunt.judge.deadline import Deadline
from bughunt.judge.limits import Limits
from bughunt.judge.zygote import Launcher, Process
from bughunt.task import Model

Kind = Literal["error", "exit", "contract", "syntax", "timeout", "memory", "protocol", "infra"]
Reported = ("error", "exit", "contract", "syntax", "memory")  # what a worker can say of itself
Value = Any

NUMBERS = itertools.count(1)  # of kept objects; never twice, so that a handle fits one program alone


class ProgramError(BughuntError):
    """A program failed; `place` is the line of its own that it failed at, where there is one."""

    code = "program"

    def __init__(self, kind: Kind, message: str, place: str = "", output: str = "") -> None:
        super().__init__(message)
        self.args = (kind, message, place, output)  # so that a copy of it can be made
        self.kind, self.place, self.output = kind, place, output

    def __str__(self) -> str:
        return f"{self.message} ({self.place})" if self.place else self.message


class RemoteRun:
    """A training in progress in the worker."""

    def __init__(self, program: "RemoteProgram", handle: wire.Handle) -> None:
        self.program, self.handle = program, handle
        self.finished = False

    def next(self, count: int = 1) -> list[float]:
        """The reported losses of the next updates; fewer than `count` when the run has ended."""
        losses: list[float] = []
        while len(losses) < count and not self.finished:
            reply = self.program.ask("next", run=self.handle, count=count - len(losses))
            match reply:
                case ([*some], bool(finished)) if all(type(loss) is float for loss in some):
                    losses += some
                    self.finished = finished
                case _:
                    raise self.program.garbage()
        return losses


class RemoteProgram:
    """A program in a worker process; see `bughunt.task.Program` for what each method promises."""

    def __init__(self, process: Process, rng: str) -> None:
        self.process, self.rng = process, rng
        self.requests = itertools.count(1)
        self.forgotten: list[int] = []
        self.patience = process.limits.wall_seconds  # not of those in which the machine stands still
        self.failure: ProgramError | None = None  # set once nothing more can be asked

    def __enter__(self) -> "RemoteProgram":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the worker and everything it started."""
        self.failure = self.failure or ProgramError("infra", "the program has been closed")
        self.process.close()

    @property
    def output(self) -> str:
        """What the program has printed, up to the limit; complete once it is closed."""
        return bytes(self.process.printed).decode("utf-8", "replace")

    @property
    def output_dropped(self) -> int:
        """Bytes printed beyond the limit."""
        return self.process.dropped

    @property
    def cpu_seconds(self) -> float | None:
        """What the worker used, once it is closed."""
        return self.process.ending.cpu_seconds if self.process.ending else None

    # --- the contract ---

    def seed(self, seed: int) -> None:
        self.ask("seed", seed=seed)

    def build(self, seed: int | None = None, **config: Value) -> Model:
        handle = self.new_handle()
        self.ask("build", number=handle.number, seed=seed, config=config)
        return handle

    def train(self, model: Model, data: Value, seed: int, **config: Value) -> RemoteRun:
        handle = self.new_handle()
        self.ask(
            "train",
            number=handle.number,
            model=model,
            data=data,
            seed=seed,
            config=config,
            rng=self.rng,
        )
        return RemoteRun(self, handle)

    def predict(self, model: Model, inputs: Value) -> Value:
        return self.ask("predict", model=model, inputs=inputs)

    def call(self, name: str, /, *args: Value, keep: bool = False, **kwargs: Value) -> Value:
        handle = self.new_handle() if keep else None
        number = handle.number if handle else None
        reply = self.ask("call", name=name, args=list(args), kwargs=kwargs, number=number)
        return handle or reply

    def call_method(self, target: Model, name: str, *args: Value, keep: bool = False) -> Value:
        handle = self.new_handle() if keep else None
        number = handle.number if handle else None
        reply = self.ask("call_method", target=target, name=name, args=list(args), number=number)
        return handle or reply

    def config(self, **config: Value) -> dict[str, Value]:
        return self.a_dict(self.ask("config", config=config))

    # --- the inside of a model ---

    def state(self, model: Model) -> dict[str, Value]:
        return self.a_dict(self.ask("state", model=model))

    def load_state(self, model: Model, state: Mapping[str, Value]) -> None:
        self.ask("load_state", model=model, state=dict(state))

    def parameters(self, model: Model) -> list[str]:
        match self.ask("parameters", model=model):
            case [*names] if all(type(name) is str for name in names):
                return names
        raise self.garbage()

    def watch_gradients(self, model: Model, flag: bool) -> None:
        """Whether `gradients` keeps what was accumulated even if zeroed since; costs a copy."""
        self.ask("watch_gradients", model=model, flag=flag)

    def gradients(self, model: Model) -> dict[str, Value]:
        """By name, as last accumulated while watched; without a watch, what `.grad` holds."""
        return self.a_dict(self.ask("gradients", model=model))

    def statistics(self, model: Model) -> dict[str, Value]:
        """`grad_norm`, and in `params` for each the norm and that of its change since the last call."""
        return self.a_dict(self.ask("statistics", model=model))

    def train_mode(self, model: Model, flag: bool) -> None:
        self.ask("train_mode", model=model, flag=flag)

    def is_training(self, model: Model) -> bool:
        return self.ask("is_training", model=model) is True

    # --- question and answer ---

    def new_handle(self) -> wire.Handle:
        """A name for an object in the worker, which may forget it when nobody here has the name any more."""
        handle = wire.Handle(next(NUMBERS))
        weakref.finalize(handle, self.forgotten.append, handle.number).atexit = False
        return handle

    def ask(self, operation: str, **arguments: Value) -> Value:
        """The answer to one request; `ProgramError` when there is none, or it is a failure."""
        if self.failure is not None:
            raise self.failure.with_traceback(None)
        number = next(self.requests)
        forget = [self.forgotten.pop() for _ in range(len(self.forgotten))]
        frame = wire.encode({"id": number, "op": operation, "forget": forget, "with": arguments})
        deadline = Deadline(min(self.process.limits.reply_seconds, self.patience))
        try:
            wire.send_frame(self.process.channel, frame, deadline)
            reply = wire.receive(self.process.channel, deadline)
        except TimeoutError:
            raise self.give_up("timeout", f"no answer within {deadline.spent():.0f} s") from None
        except wire.MalformedError as error:
            raise self.garbage(str(error)) from None
        except (EOFError, OSError):
            raise self.post_mortem() from None
        finally:
            self.patience -= deadline.spent()
        return self.understand(reply, number)

    def understand(self, reply: Value, number: int) -> Value:
        match reply:
            case {"id": int(echoed), "ok": value} if echoed == number and len(reply) == 2:
                return value
            case {
                "id": int(echoed),
                "failed": {"kind": str(kind), "message": str(message), "place": str(place)},
            } if echoed == number and kind in Reported:
                raise ProgramError(as_kind(kind), message, place)
        raise self.garbage()

    def a_dict(self, value: Value) -> dict[str, Value]:
        if type(value) is not dict or not all(type(key) is str for key in value):
            raise self.garbage()
        return value

    def garbage(self, why: str = "not an answer to the question") -> ProgramError:
        return self.give_up("protocol", f"the program wrote into its line to the judge ({why})")

    def give_up(self, kind: Kind, message: str) -> ProgramError:
        self.process.kill()
        self.failure = ProgramError(kind, message)
        return self.failure

    def post_mortem(self) -> ProgramError:
        """The error that says best why the worker is gone."""
        ended = self.process.ended.wait(2.0)
        ending = self.process.ending
        if not ended:
            return self.give_up("exit", "the program closed its line to the judge")
        if ending is None:
            return self.give_up("infra", "the process that runs programs ended; try again")
        if not self.process.fenced:
            said = self.process.zygote.messages().rpartition("\n")[2]
            return self.give_up("infra", f"the program could not be started: {said}")
        if ending.status >= 0:
            return self.give_up("exit", f"the program ended its process (status {ending.status})")
        limits = self.process.limits
        if ending.cpu_seconds >= limits.cpu_seconds - 0.5:
            return self.give_up("timeout", f"used up its {limits.cpu_seconds} CPU seconds")
        name = signal.Signals(-ending.status).name
        if name == "SIGKILL":
            return self.give_up("memory", "killed by the system, most likely for want of memory")
        return self.give_up("error", f"the program crashed ({name})")


def as_kind(text: str) -> Kind:
    return next(kind for kind in get_args(Kind) if kind == text)


def open_program(
    launcher: Launcher,
    files: Mapping[str, str],
    *,
    device: str = "cpu",
    limits: Limits | None = None,
    rng: str = "torch",
) -> RemoteProgram:
    """Run the program's `train.py` in a fresh worker; the error of a failure carries what it printed."""
    program = RemoteProgram(launcher.spawn(limits or Limits(), device), rng)
    try:
        program.ask("load", files=dict(files))
    except BaseException as error:
        program.close()
        if isinstance(error, ProgramError):
            error.output = program.output
        raise
    return program
