"""Working on a challenge: check, submit and note."""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from bughunt.cli.output import emit
from bughunt.cli.session import Session, id_argument, json_option, plot_option
from bughunt.errors import UsageError

if TYPE_CHECKING:
    from bughunt.play.attempt import Attempt

LIMIT, ENVIRONMENT, UNSOLVED = 4, 3, 1


@click.command("check")
@id_argument
@click.option("--tests", "tests_only", is_flag=True, help="Only the behaviour tests, no curve.")
@click.option("--device", type=click.Choice(["cpu", "cuda", "auto"]), default="cpu", show_default=True)
@plot_option
@json_option
@click.pass_obj
def check_command(session: Session, id_: str | None, tests_only: bool, device: str, plot: bool | None) -> int:
    """Judge your file on one hidden seed: free, as often as you like."""
    session.alone("check")
    return _judge(session, id_, "check", plot, device=device, tests_only=tests_only)


@click.command("submit")
@id_argument
@plot_option
@json_option
@click.pass_obj
def submit_command(session: Session, id_: str | None, plot: bool | None) -> int:
    """Judge your file on three hidden seeds, for the score; in a competition the host does."""
    if (remote := session.remote) is not None:
        from bughunt.cli.team import send

        return send(session, remote, session.current(id_))
    return _judge(session, id_, "submit", plot)


def _judge(
    session: Session,
    id_: str | None,
    kind: str,
    plot: bool | None,
    *,
    device: str = "cpu",
    tests_only: bool = False,
) -> int:
    from bughunt.play.attempt import attempt

    challenge = session.current(id_)
    last = (challenge.curves().steps or [0])[-1]
    progress = Progress(session, last)
    try:
        result = attempt(
            session.workspace,
            challenge,
            kind,
            device=device,
            tests_only=tests_only,
            on_event=progress.event,
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(progress.stopped()) from None
    finally:
        progress.clear()
    _show(session, result, plot)
    if result.verdict.curves:
        _write_runs(session, result)
    return _exit_code(result)


class Progress:
    """How far a judgement has come: one line on a terminal's stderr, rewritten in place."""

    def __init__(self, session: Session, last: int) -> None:
        quiet = session.quiet or session.json
        self._shown = sys.stderr.isatty() and not quiet
        self._tests, self._step, self._last = 0, 0, last
        self._write("starting the judge")

    def event(self, kind: str, what: object) -> None:
        if kind == "test":
            self._tests += 1
            self._write(f"tests {self._tests}")
        elif kind == "probe" and isinstance(what, tuple):
            self._step = int(what[1])
            self._write(f"step {self._step} of {self._last}")

    def stopped(self) -> str:
        where = f"at step {self._step} of {self._last}" if self._step else "before the curve"
        return f"stopped {where}: the attempt is not counted"

    def clear(self) -> None:
        self._write("")

    def _write(self, text: str) -> None:
        if self._shown:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()


def _show(session: Session, result: "Attempt", plot: bool | None) -> None:
    from bughunt.show import screens

    challenge, verdict = result.challenge, result.verdict
    progress = session.state().of(challenge.id)
    if session.json:
        emit(result.kind, **judged(session, result))
        return
    screen = session.screen
    if verdict.layer == "syntax":
        session.say(verdict.detail)
        return
    seeds = f"{result.seeds} hidden seed{'s' * (result.seeds != 1)}"
    unscored = "" if result.scored else ", unscored"
    head = f"{challenge.id}  {result.kind} {result.number or '(not counted)'}"
    session.say(f"{head} · {seeds} · {result.device}{unscored}, 1 thread · {verdict.seconds:.1f} s\n")
    drawn = screen.tty if plot is None else plot
    best = progress.best_recovery
    session.say(screens.checked(challenge, verdict, result.changed, screen.width, plot=drawn, best=best))
    session.say("\n" + _last_lines(result, len(progress.attempts)))


def _last_lines(result: "Attempt", attempts: int) -> str:
    from bughunt.show import screens

    verdict = result.verdict
    if verdict.passed and result.kind == "submit":
        return (
            f"Solved, score {verdict.score:.0f} of 100, {result.points} points.\n"
            "bughunt explain · bughunt next"
        )
    if verdict.passed:
        return "This passes. bughunt submit"
    told = screens.verdict_line(result.challenge, verdict)
    if result.kind == "submit":
        told += f"\nScore {verdict.score:.0f} of 100."
    quiet_word = " · bughunt hint · bughunt reset" if attempts >= 3 else " · bughunt hint"
    return f"{told}\nbughunt check{quiet_word}"


def judged(session: Session, result: "Attempt") -> dict[str, object]:
    """The object of `check --json` and `submit --json`; documented in docs/player.md."""
    from bughunt.show.screens import COUNTS_ONLY_FROM, observation

    challenge, verdict = result.challenge, result.verdict
    named = verdict.tests if challenge.level < COUNTS_ONLY_FROM else []
    bugs = verdict.repaired if challenge.level < COUNTS_ONLY_FROM else []
    runs = session.workspace.runs / challenge.id
    return {
        "challenge": challenge.id,
        "attempt": result.number or None,
        "passed": verdict.passed,
        "verdict": str(verdict.outcome),
        "score": verdict.score,
        "points": result.points,
        "recovery": verdict.recovery,
        "tests": {
            "passed": sum(test.passed for test in verdict.tests),
            "total": len(verdict.tests),
            "results": [
                {"name": t.name, "passed": t.passed, "detail": t.detail} for t in named
            ],
        },
        "bugs": {"repaired": sum(bugs), "total": len(bugs)} if bugs else None,
        "curve": _curve(result),
        "observation": observation(challenge, verdict),
        "detail": verdict.detail,
        "layer": verdict.layer,
        "layers": dict(verdict.layers),
        "stopped": verdict.stopped,
        "left_reference_at": verdict.differential.first_step if verdict.differential else None,
        "change": asdict(verdict.change) if verdict.change else None,
        "output": verdict.output[-4000:],
        "changed": dict(result.changed),
        "seeds": result.seeds,
        "device": result.device,
        "scored": result.scored,
        "threads": 1,
        "seconds": verdict.seconds,
        "runs": str(runs) if verdict.curves else None,
    }  # fmt: skip


def _curve(result: "Attempt") -> dict[str, object] | None:
    challenge, curves = result.challenge, result.verdict.curves
    if not curves:
        return None
    known = challenge.curves()
    ends = [run[-1] for run in known.reference]
    return {
        "name": challenge.curve,
        "steps": list(curves[0].steps),
        "values": [list(curve.values) for curve in curves],
        "metric": challenge.metric,
        "metrics": [list(curve.metrics) for curve in curves],
        "gradient_norms": [list(curve.gradient_norms) for curve in curves],
        "update_ratios": [{name: list(ratios) for name, ratios in c.update_ratios.items()} for c in curves],
        "reference_final": [min(ends), max(ends)],
        "broken_final": [run[-1] for run in known.broken],
    }


def _write_runs(session: Session, result: "Attempt") -> None:
    """After the verdict is on the screen, so that nobody waits for it."""
    from bughunt.show import tensorboard

    runs = session.workspace.runs
    tensorboard.write_baseline(runs, result.challenge)
    if result.number:
        tensorboard.write_attempt(runs, result.challenge, result.number, result.verdict.curves)


def _exit_code(result: "Attempt") -> int:
    from bughunt.judge.verdict import Outcome

    codes = {Outcome.SOLVED: 0, Outcome.TIMEOUT: LIMIT, Outcome.INFRA: ENVIRONMENT}
    return codes.get(result.verdict.outcome, UNSOLVED)


@click.command("note")
@click.argument("text", nargs=-1, required=True)
@click.pass_obj
def note_command(session: Session, text: tuple[str, ...]) -> None:
    """Write down what you saw or suspect; evidence opens the next hint."""
    challenge = session.current()
    words = " ".join(text).strip()
    if not words:
        raise UsageError("an empty note says nothing", 'bughunt note "rows sum to ..."')
    session.workspace.record("note", challenge.id, text=words)
    session.say(f"Noted for {challenge.id}.")
