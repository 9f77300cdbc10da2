"""Being told: hints at a price, the repair after giving up, the post-mortem after the hunt."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from bughunt.cli.output import emit
from bughunt.cli.session import Session, id_argument, json_option
from bughunt.errors import UsageError

if TYPE_CHECKING:
    from bughunt.bugsets.challenge import Challenge
    from bughunt.play.hints import Hint


@click.command("hint")
@id_argument
@click.option("--yes", is_flag=True, help="Pay without being asked.")
@click.option("--again", is_flag=True, help="Repeat the hints that are open, free.")
@json_option
@click.pass_obj
def hint_command(session: Session, id_: str | None, yes: bool, again: bool) -> None:
    """Open the next hint; its price in points is shown first."""
    from bughunt.play.hints import ladder, upcoming, value

    session.alone("hint")
    challenge = session.current(id_)
    progress = session.state().of(challenge.id)
    rungs = ladder(challenge, challenge.sealed().hints)
    opened = rungs[: len(progress.hints)]
    if again:
        _tell(session, challenge, opened)
        return
    hint = upcoming(rungs, progress)
    if not yes:
        _ask(session, f'"{hint.title}" costs {hint.price} of {value(challenge)} points')
    rung = len(opened) + 1
    session.workspace.record("hint", challenge.id, rung=rung, price=hint.price)
    _tell(session, challenge, [*opened, hint] if session.json else [hint])


def _ask(session: Session, offer: str) -> None:
    if not session.may_ask():
        raise UsageError(f"the next hint, {offer}", "bughunt hint --yes opens it")
    click.confirm(f"The next hint, {offer}. Open it?", abort=True, err=True)


def _tell(session: Session, challenge: "Challenge", hints: "list[Hint]") -> None:
    import textwrap

    if session.json:
        told = [{"name": h.name, "text": h.text, "price": h.price} for h in hints]
        emit("hint", challenge=challenge.id, hints=told)
        return
    width = session.screen.width - 2
    for hint in hints:
        first, rest = f"  {hint.name:<6s} ", " " * 9
        session.say(textwrap.fill(hint.text, width, initial_indent=first, subsequent_indent=rest))
    session.say("\nThe next one opens after another check or note." if hints else "No hint is open.")


@click.command("giveup")
@id_argument
@click.option("--confirm", metavar="ID", help="The id again, instead of typing it.")
@click.pass_obj
def giveup_command(session: Session, id_: str | None, confirm: str | None) -> None:
    """End the hunt for this challenge and see the repair; it does not count as solved."""
    session.alone("giveup")
    challenge = session.current(id_)
    progress = session.state().of(challenge.id)
    if not (progress.solved or progress.given_up):
        if confirm is None:
            if not session.may_ask():
                raise UsageError("giving up asks once", f"bughunt giveup --confirm {challenge.id}")
            confirm = click.prompt(f"Type {challenge.id} to see the repair", err=True)
        if confirm != challenge.id:
            raise UsageError(f"{confirm!r} is not {challenge.id}", "nothing was given up")
        session.workspace.record("giveup", challenge.id)
    _explain(session, challenge)


@click.command("explain")
@id_argument
@json_option
@click.pass_obj
def explain_command(session: Session, id_: str | None) -> None:
    """What the bug was, why it showed as it did, and where it happened; after the hunt."""
    session.alone("explain")
    challenge = session.current(id_)
    progress = session.state().of(challenge.id)
    if not (progress.solved or progress.given_up):
        raise UsageError(
            f"{challenge.id} is {progress.state}, the post-mortem opens when it is over",
            "bughunt submit, or bughunt giveup",
        )
    _explain(session, challenge)


def _explain(session: Session, challenge: "Challenge") -> None:
    from bughunt.show import screens

    sealed = challenge.sealed()
    progress = session.state().of(challenge.id)
    repair = reversal(challenge.program(), sealed.repaired)
    if session.json:
        emit(
            "explain",
            challenge=challenge.id,
            state=progress.state,
            category=sealed.category,
            operators=list(sealed.operators),
            where=list(sealed.where),
            post_mortem=sealed.post_mortem,
            evidence=list(sealed.evidence),
            repair=repair,
            diagnosis=diagnosis(session, challenge),
            attempts=len(progress.attempts),
            hints=len(progress.hints),
            notes=progress.notes,
        )
        return
    lines = [f"{challenge.id}  post-mortem · {sealed.category} · {', '.join(sealed.where)}", ""]
    lines.append(screens.prose(sealed.post_mortem, session.screen.width))
    if "```diff" not in sealed.post_mortem:
        lines += ["", repair]
    lines += ["", *(f"In the wild   {address}" for address in sealed.evidence)]
    lines += [f"You wrote     {text}" for text in progress.notes]
    lines += [f"Attempt {told['attempt']:<6}{_left(told)}" for told in diagnosis(session, challenge)]
    lines.append(f"Attempts      {len(progress.attempts)}, hints {len(progress.hints)}")
    session.say("\n".join(lines) + "\n\nbughunt next")


def diagnosis(session: Session, challenge: "Challenge") -> list[dict[str, object]]:
    """For each attempt: where it left the reference, in which tensors, and what decided."""
    from bughunt.judge.plain import finite
    from bughunt.play.attempt import stored_verdict

    told = []
    for attempt in session.state().of(challenge.id).attempts:
        verdict = stored_verdict(session.workspace, challenge.id, attempt["attempt"])
        if verdict is None:
            continue
        seen = verdict.differential
        told.append(
            {
                "attempt": attempt["attempt"],
                "verdict": str(verdict.outcome),
                "layer": verdict.layer,
                "layers": dict(verdict.layers),
                "first_step": seen.first_step if seen else None,
                "what": seen.what if seen and not seen.passed else "",
                "deviation": finite(seen.deviation) if seen else None,
                "gradients": finite(dict(seen.gradients)) if seen else {},
            }
        )
    return told


def _left(told: Mapping[str, object]) -> str:
    """One line on an attempt."""
    head = f"{told['verdict']}, decided by {told['layer']}"
    if told["first_step"] is None:
        return head
    return f"{head}; left the reference at step {told['first_step']}: {told['what']}"


def reversal(broken: Mapping[str, str], repaired: Mapping[str, str]) -> str:
    """The repair as a unified diff, file by file."""
    import difflib

    lines: list[str] = []
    for name, text in broken.items():
        mended = repaired.get(name, text).splitlines()
        lines += difflib.unified_diff(text.splitlines(), mended, "broken", "repaired", lineterm="")
    return "\n".join(lines)
