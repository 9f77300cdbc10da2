"""The screens of the hunt as plain text: pure functions from values to lines.

The order is always the same: who and where, what was seen, and last the verdict and the next command.
"""

import textwrap
from collections.abc import Mapping, Sequence
from math import isfinite

from bughunt.bugsets.challenge import Challenge, Curves
from bughunt.judge.verdict import SENTENCES, Outcome, Verdict
from bughunt.show.plot import Line, Picture, draw, legend, number, span
from bughunt.show.terminal import plain

COUNTS_ONLY_FROM = 4  # level from which a failing test is not named, nor the number of bugs told
SHOWN_OUTPUT = 12  # lines of the program's own output


def brief(challenge: Challenge, folder: str, width: int, *, plot: bool, then: str = "bughunt check") -> str:
    """What `next` and `goto` show: the symptom, the two curves, where to edit."""
    lines = [headline(challenge, width), meta(challenge), ""]
    lines += [_wrapped(challenge.brief(), width), ""]
    curves = challenge.curves()
    if curves.steps:
        lines += [*_baseline(challenge, baseline(curves), width, plot), ""]
    names = list(challenge.program())
    told = f"{folder}/{names[0]}" if len(names) == 1 else f"{folder}/: {', '.join(names)}"
    lines += [f"  Edit   {told}", f"  Run    python {folder}/run.py"]
    return "\n".join([*lines, f"  Then   {then}"])


def _baseline(challenge: Challenge, picture: Picture, width: int, plot: bool) -> list[str]:
    drawn = draw(picture, width, height=8) if plot else _finals(challenge, picture)
    return [f"  {challenge.curve}   {legend(picture)}", drawn]


def headline(challenge: Challenge, width: int) -> str:
    right = f"level {challenge.level} · ~{challenge.minutes} min"
    left = f"{challenge.id}  {challenge.title}"
    room = width - len(right) - 2
    return f"{left:<{room}s}  {right}" if len(left) <= room else f"{left}\n{right}"


def meta(challenge: Challenge) -> str:
    files = challenge.program()
    lines = sum(text.count("\n") for text in files.values())
    named = "train.py" if len(files) == 1 else f"{len(files)} files"
    told = challenge.level < COUNTS_ONLY_FROM
    bugs = f" · {challenge.bugs} bug{'s' * (challenge.bugs != 1)}" if told else ""
    steps = f" · {challenge.steps} steps" if challenge.steps else ""
    return f"{challenge.folder.parent.name} · {named}, {lines} lines{bugs}{steps}"


def checked(
    challenge: Challenge,
    verdict: Verdict,
    changed: Mapping[str, int],
    width: int,
    *,
    plot: bool,
    best: float | None = None,
) -> str:
    """Everything between the first line of an attempt and its verdict."""
    parts = [_files(changed)]
    if verdict.tests:
        parts.append(_tests(challenge, verdict, width))
    if verdict.repaired and challenge.level < COUNTS_ONLY_FROM:
        parts.append(f"  bugs       {sum(verdict.repaired)} of {len(verdict.repaired)} repaired")
    if verdict.curves:
        parts.append(_curve(challenge, verdict, width, plot, best))
    if verdict.outcome in (Outcome.ERROR, Outcome.CONTRACT, Outcome.TIMEOUT, Outcome.INFRA):
        parts.append(_stopped(verdict))
    return "\n".join(parts)


def verdict_line(challenge: Challenge, verdict: Verdict) -> str:
    """The verdict, and the observation that it rests on; never the cause."""
    seen = observation(challenge, verdict)
    return f"{SENTENCES[verdict.outcome]}" + (f"\n{seen}" if seen else "")


def observation(challenge: Challenge, verdict: Verdict) -> str:
    """One thing that can be seen from outside and is not as it should be."""
    if verdict.outcome in (Outcome.SOLVED, Outcome.INFRA, Outcome.FLAGGED):
        return ""
    failed = [test for test in verdict.tests if not test.passed]
    if failed and challenge.level < COUNTS_ONLY_FROM:
        return f"Seen: this does not hold: {sentence(failed[0].name)}."
    if failed:
        return f"Seen: {len(failed)} of {len(verdict.tests)} behaviours do not hold."
    if verdict.curves:
        ends = [run[-1] for run in challenge.curves().reference]
        final = _last(verdict.curves[0].values)
        return f"Seen: {challenge.curve} ends at {number(final)}; a healthy run at {span(ends)}."
    return ""


def sentence(test: str) -> str:
    """`test_a_row_keeps_its_label[8]` -> `a row keeps its label [8]`."""
    name, bracket, rest = test.rsplit("::", 1)[-1].partition("[")
    words = name.removeprefix("test_").replace("_", " ")
    return f"{words} [{rest}" if bracket else words


def baseline(curves: Curves) -> Picture:
    """The band of the reference seeds and the broken program (the middle one of its seeds)."""
    band = [Line(curves.steps, values) for values in curves.reference]
    runs = sorted(curves.broken, key=lambda run: run[-1] if isfinite(run[-1]) else float("inf"))
    return Picture(band, Line(curves.steps, runs[len(runs) // 2]) if runs else None)


def with_yours(curves: Curves, verdict: Verdict) -> Picture:
    picture = baseline(curves)
    run = verdict.curves[0]
    return Picture(picture.band, picture.broken, Line(run.steps, run.values))


def _files(changed: Mapping[str, int]) -> str:
    if not changed:
        return "  files      as they were handed out"
    said = ", ".join(f"{n} changed, {c} line{'s' * (c != 1)}" for n, c in changed.items())
    return f"  files      ✓ {said}"


def _tests(challenge: Challenge, verdict: Verdict, width: int) -> str:
    passed = sum(test.passed for test in verdict.tests)
    if challenge.level >= COUNTS_ONLY_FROM:
        return f"  tests      {passed} of {len(verdict.tests)} hold"
    lines = []
    for test in sorted(verdict.tests, key=lambda test: test.passed, reverse=True):
        lines.append(f"{'✓' if test.passed else '✗'} {sentence(test.name)}")
        if not test.passed:
            told = textwrap.wrap(plain(test.detail).replace("\n", " "), max(20, width - 17))
            lines += [f"    {line}" for line in told[:3]]
    first, *rest = lines
    return "\n".join([f"  tests      {first}", *(" " * 13 + line for line in rest)])


def _curve(challenge: Challenge, verdict: Verdict, width: int, plot: bool, best: float | None) -> str:
    picture = with_yours(challenge.curves(), verdict)
    lines = [f"  curve      {picture.last} steps, {challenge.curve} measured by bughunt"]
    if plot:
        lines += [f"               {legend(picture)}", "", draw(picture, width), ""]
    lines.append(_finals(challenge, picture))
    if verdict.recovery is not None:
        told = f"  recovery   {100 * verdict.recovery:.0f} %"
        lines.append(told + (f"  (best so far {100 * best:.0f} %)" if best is not None else ""))
    if len(verdict.curves) > 1:
        ends = ", ".join(number(_last(curve.values)) for curve in verdict.curves)
        lines.append(f"  seeds      {challenge.curve} ends at {ends}")
    return "\n".join(lines)


def _finals(challenge: Challenge, picture: Picture) -> str:
    parts = [f"  {challenge.curve}"]
    if picture.yours:
        parts.append(f"yours {number(picture.yours.final)}")
    parts.append(f"reference {span([line.final for line in picture.band])}")
    if picture.broken:
        parts.append(f"broken {number(picture.broken.final)}")
    return "   ".join(parts)


def _stopped(verdict: Verdict) -> str:
    lines = [f"  program    ✗ {line}" for line in plain(verdict.detail).splitlines()[:1]]
    lines += [f"             {line}" for line in plain(verdict.detail).splitlines()[1:8]]
    printed = plain(verdict.output).rstrip().splitlines()
    if printed:
        lines += ["", "  It printed:", *(f"    {line}" for line in printed[-SHOWN_OUTPUT:])]
    return "\n".join(lines)


def prose(text: str, width: int) -> str:
    """Markdown for a terminal: paragraphs are folded, fenced code keeps its lines, marks are left out."""
    parts = []
    for number_, part in enumerate(text.strip().split("```")):
        if number_ % 2:
            parts.append("\n".join(f"    {line}" for line in part.strip("\n").splitlines()[1:]))
        else:
            parts += [_wrapped(part, width)] if part.strip() else []
    return "\n\n".join(parts)


def _wrapped(text: str, width: int) -> str:
    """Markdown paragraphs, indented; headings are left out and lists keep their lines."""
    paragraphs = []
    for block in text.strip().split("\n\n"):
        lines = [line for line in block.splitlines() if not line.startswith("#")]
        kept = any(line.startswith(("- ", "    ", "|", "```", "* ")) for line in lines)
        if kept:
            paragraphs.append("\n".join(f"  {line}" for line in lines))
        elif lines:
            joined = " ".join(lines).replace("**", "")
            paragraphs.append(textwrap.fill(joined, width - 2, initial_indent="  ", subsequent_indent="  "))
    return "\n\n".join(paragraphs)


def _last(values: Sequence[float]) -> float:
    return values[-1] if values else float("nan")
