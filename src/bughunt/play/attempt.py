"""An attempt: the player's files, the seeds that the files themselves choose, and the judge's verdict."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from bughunt.bugsets.challenge import Challenge
from bughunt.bugsets.change import changed_lines
from bughunt.bugsets.seeds import choose_seeds, digest
from bughunt.errors import MachineError
from bughunt.files import write_text, write_tree
from bughunt.judge.plain import finite
from bughunt.judge.verdict import Change, Curve, Differential, Outcome, TestResult, Verdict
from bughunt.play.hints import points
from bughunt.play.syntax import first_fault
from bughunt.play.workspace import Workspace

CHECK_SEEDS, SUBMIT_SEEDS = 1, 3
MAX_OUTPUT = 20_000

OnEvent = Callable[..., None]


@dataclass(frozen=True)
class Attempt:
    """One judged version of the player's program; `number` is 0 where nothing was counted."""

    challenge: Challenge
    number: int
    kind: str  # "check" or "submit"
    seeds: int
    device: str
    changed: Mapping[str, int]  # file -> lines that differ from the broken original
    verdict: Verdict
    points: int = 0

    @property
    def scored(self) -> bool:
        return self.device == "cpu"


def attempt(
    workspace: Workspace,
    challenge: Challenge,
    kind: str,
    *,
    device: str = "cpu",
    tests_only: bool = False,
    on_event: OnEvent | None = None,
) -> Attempt:
    """Judge the player's files; record the attempt unless it did not parse or the fault is ours."""
    files = workspace.program(challenge)
    changed = changed_lines(challenge.program(), files)
    fault = first_fault(files)
    if fault:
        verdict = Verdict(Outcome.ERROR, 0.0, detail=fault, layer="syntax")
        return Attempt(challenge, 0, kind, 0, device, changed, verdict)
    device = chosen_device(device)
    key = digest(challenge.id, files)
    count = SUBMIT_SEEDS if kind == "submit" else CHECK_SEEDS
    seeds = choose_seeds(key, challenge.sealed().seeds, count)
    verdict = _judge(challenge, files, seeds, device, tests_only, on_event)
    number = 0
    if verdict.outcome is not Outcome.INFRA:
        number = _next_number(workspace, challenge)
    result = Attempt(challenge, number, kind, len(seeds), device, changed, verdict)
    return _record(workspace, result, files, key) if number else result


def chosen_device(wanted: str) -> str:
    """`auto` is a GPU where there is one; MachineError where `cuda` was asked for and is not there."""
    if wanted == "cpu":
        return wanted
    import torch

    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise MachineError("this torch sees no CUDA device", "bughunt check --device cpu")
    return "cuda" if there else "cpu"


def _judge(
    challenge: Challenge,
    files: Mapping[str, str],
    seeds: Sequence[int],
    device: str,
    tests_only: bool,
    on_event: OnEvent | None,
) -> Verdict:
    from bughunt.bugsets.case import case_of
    from bughunt.judge.judge import Judge

    with Judge(device=device) as judge:
        return judge.judge(
            files,
            case_of(challenge),
            seeds,
            device=device,
            tests=True,
            curves=not tests_only,
            on_event=on_event,
        )


def _next_number(workspace: Workspace, challenge: Challenge) -> int:
    state, _ = workspace.state()
    return max((a["attempt"] for a in state.of(challenge.id).attempts), default=0) + 1


def _record(workspace: Workspace, result: Attempt, files: Mapping[str, str], key: bytes) -> Attempt:
    challenge, verdict = result.challenge, result.verdict
    state, _ = workspace.state()
    gained = 0
    if result.kind == "submit" and verdict.passed:
        gained = points(challenge, verdict.score, state.of(challenge.id).hints)
    folder = workspace.attempt_folder(challenge.id, result.number)
    write_tree(folder, files)
    write_text(folder / "output.txt", verdict.output[:MAX_OUTPUT])
    write_text(folder / "verdict.json", json.dumps(finite(asdict(verdict)), indent=1) + "\n")
    workspace.record(
        result.kind,
        challenge.id,
        attempt=result.number,
        verdict=str(verdict.outcome),
        score=finite(verdict.score),
        recovery=finite(verdict.recovery),
        tests=[sum(test.passed for test in verdict.tests), len(verdict.tests)],
        points=gained,
        digest=key.hex(),
        device=result.device,
        seconds=round(verdict.seconds, 2),
    )
    return replace(result, points=gained)


def stored_verdict(workspace: Workspace, challenge: str, number: int) -> Verdict | None:
    """The verdict of an earlier attempt, curves included."""
    path = workspace.attempt_folder(challenge, number) / "verdict.json"
    if not path.is_file():
        return None
    fields = json.loads(path.read_text(encoding="utf-8"))
    fields["outcome"] = Outcome(fields["outcome"])
    fields["tests"] = [TestResult(**test) for test in fields["tests"]]
    fields["curves"] = [Curve(**_with_nan(curve)) for curve in fields["curves"]]
    seen, change = fields["differential"], fields.get("change")
    fields["differential"] = (
        Differential(**{**seen, "deviation": _number(seen["deviation"])}) if seen else None
    )
    fields["change"] = Change(**change) if change else None
    return Verdict(**fields)


def _number(value: float | None) -> float:
    return math.inf if value is None else value


def _with_nan(curve: Mapping[str, Any]) -> dict[str, Any]:
    numbers = ("values", "metrics", "reported", "gradient_norms")
    mended = dict(curve)
    for name in numbers:
        mended[name] = [math.nan if value is None else value for value in curve[name]]
    mended["update_ratios"] = {
        key: [math.nan if value is None else value for value in values]
        for key, values in curve["update_ratios"].items()
    }
    return mended
