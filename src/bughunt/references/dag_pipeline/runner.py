"""Running steps: results are kept under a key of all that they come from, failures are tried again."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from graph import needed_for


class StepError(RuntimeError):
    """A step failed as often as it may."""


@dataclass(frozen=True)
class Step:
    """A function of its parameters and of the results it needs, in their order."""

    function: Callable[..., Any]
    needs: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    version: int = 1  # of the code
    retries: int = 0


def fingerprint(value: object) -> str:
    """The same for equal plain values, whatever the order of the keys in them."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def key_of(name: str, step: Step, sources: list[str]) -> str:
    """The key of a step's result: its name, code and parameters, and the keys of what it takes."""
    return fingerprint([name, step.version, dict(step.parameters), sources])


@dataclass
class Runner:
    steps: Mapping[str, Step]
    kept: dict[str, Any] = field(default_factory=dict)  # key -> result
    log: list[tuple[str, str]] = field(default_factory=list)  # step, "ran", "kept" or "failed"

    def run(self, *wanted: str) -> dict[str, Any]:
        """The results of the wanted steps, of all where none are named; what is kept is not made again."""
        needs = {name: step.needs for name, step in self.steps.items()}
        keys: dict[str, str] = {}
        for name in needed_for(needs, wanted or list(needs)):
            step = self.steps[name]
            keys[name] = key_of(name, step, [keys[source] for source in step.needs])
            if keys[name] in self.kept:
                self.log.append((name, "kept"))
                continue
            result = self.attempt(name, step, [self.kept[keys[source]] for source in step.needs])
            self.kept[keys[name]] = result
        return {name: self.kept[keys[name]] for name in wanted or list(needs)}

    def attempt(self, name: str, step: Step, inputs: list[Any]) -> Any:
        """Call a step, and again after a failure as often as it allows; nothing of a failure is kept."""
        for left in range(step.retries, -1, -1):
            try:
                result = step.function(*inputs, **step.parameters)
            except Exception as error:
                self.log.append((name, "failed"))
                if left == 0:
                    raise StepError(f"{name} failed: {error}") from error
            else:
                self.log.append((name, "ran"))
                return result
        raise AssertionError("unreachable")
