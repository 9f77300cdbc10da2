"""Essays: what there is to say about an operator, and pages of them, in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import unified_diff
from itertools import groupby

from bughunt_mutator.operator import Example, Operator
from bughunt_mutator.rows import Row, load_rows

DEEP_CRIME = "https://doi.org/10.1145/3460319.3464825"
HUMBATOVA = "https://arxiv.org/abs/1910.11015"
NEEDS_A_RUN = (
    "**Where it is found.** Only in a program that was run: the shapes are needed to know that it fits."
)
NOTE = "<!-- Written by `bughunt operators docs`. Change the operators or rows.toml instead. -->"


def essay(operator: Operator) -> str:
    """What is written, why people make it, how it shows, how to find and repair it, where it happened."""
    rows = rows_of(operator)
    return "\n\n".join(
        [
            f"*{operator.category} · difficulty {operator.difficulty}*",
            *_written(operator, rows),
            *(f"**Why people make it.** {slip}" for slip in dict.fromkeys(row.slip for row in rows)),
            f"**How it shows.** {operator.symptom}{_classes(rows)}",
            f"**What happens.** {operator.mechanism}",
            _probe(operator),
            *([NEEDS_A_RUN] if operator.facts else []),
            f"**How to repair it.** {operator.repair}",
            *_elsewhere(rows),
            _evidence(operator),
        ]
    )


def pages(operators: Mapping[str, Operator]) -> dict[str, str]:
    """The text of each page by its file name: an index, and one page a category."""
    ordered = sorted(operators.values(), key=lambda each: (each.category, each.id))
    by_category = {name: list(group) for name, group in groupby(ordered, key=lambda each: each.category)}
    found = {"index.md": _index(by_category)}
    for name, group in by_category.items():
        essays = (f"## {operator.id}\n\n{essay(operator)}" for operator in group)
        found[f"{name}.md"] = "\n\n".join([f"# {name}", NOTE, *essays]) + "\n"
    return found


def rows_of(operator: Operator) -> list[Row]:
    """The catalogue's rows that an operator writes; none where it stands beside the catalogue."""
    return [load_rows()[row] for row in operator.rows if row in load_rows()]


def is_folklore(operator: Operator) -> bool:
    """Whether no case is documented of what an operator writes."""
    rows = rows_of(operator)
    return not any(row.documented for row in rows) if rows else not operator.evidence


def _written(operator: Operator, rows: Sequence[Row]) -> Iterator[str]:
    if rows:
        yield "**What is written.** " + " ".join(row.text for row in rows)
    for row in operator.rows:
        shown = next(each for each in operator.examples if (each.row or operator.rows[0]) == row)
        name = f"`{row}`:\n\n" if len(operator.rows) > 1 else ""
        yield f"{name}```diff\n{_difference(shown)}\n```"


def _difference(example: Example) -> str:
    before, after = example.before.splitlines(), example.after[0].splitlines()
    lines = list(unified_diff(before, after, lineterm="", n=len(before)))
    return "\n".join(line.rstrip() for line in lines[3:])


def _classes(rows: Sequence[Row]) -> str:
    shown = ", ".join(dict.fromkeys(row.shows for row in rows))
    return f" ({shown})" if shown else ""


def _probe(operator: Operator) -> str:
    """The three hints as one piece of advice."""
    look, where, what = (hint.partition(": ")[2] for hint in operator.hints)
    place = where.replace("`{function}`", "the function at hand")
    return f"**How to find it.** First {look} Then look at {place} Ask: {what}"


def _elsewhere(rows: Sequence[Row]) -> Iterator[str]:
    codes = sorted({row.deepcrime for row in rows if row.deepcrime})
    leaves = sorted({row.humbatova for row in rows if row.humbatova})
    parts = [f"[DeepCrime]({DEEP_CRIME}) {', '.join(codes)}"] if codes else []
    parts += [f"[Humbatova et al.]({HUMBATOVA}) leaf {', '.join(leaves)}"] if leaves else []
    if parts:
        yield f"**Known elsewhere as.** {'; '.join(parts)}"


def _evidence(operator: Operator) -> str:
    links = "\n".join(f"- <{address}>" for address in operator.evidence)
    if not is_folklore(operator):
        return f"**Where it happened.**\n\n{links}"
    near = f" Close to it:\n\n{links}" if links else ""
    return f"**Folklore.** No documented case is known in this form.{near}"


def _index(by_category: Mapping[str, Sequence[Operator]]) -> str:
    head = "| category | operators | rows | folklore | with DeepCrime | with Humbatova |"
    lines = [head, "|---|---|---|---|---|---|"]
    for name, group in by_category.items():
        rows = [row for operator in group for row in rows_of(operator)]
        told = (
            f"[{name}]({name}.md)",
            len(group),
            len(rows),
            sum(not row.documented for row in rows),
            sum(bool(row.deepcrime) for row in rows),
            sum(bool(row.humbatova) for row in rows),
        )
        lines.append("| " + " | ".join(map(str, told)) + " |")
    lists = (f"**{name}**: " + ", ".join(_linked(group)) for name, group in by_category.items())
    return "\n\n".join(["# Operators", NOTE, "\n".join(lines), *lists]) + "\n"


def _linked(group: Sequence[Operator]) -> Iterator[str]:
    for operator in group:
        mark = " (folklore)" if is_folklore(operator) else ""
        yield f"[{operator.id}]({operator.category}.md#{operator.id.lower()}){mark}"
