"""What bug sets are made from: operators, reference programs, and mutation of any file."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bughunt.cli.output import emit, write
from bughunt.cli.session import Session, json_option
from bughunt.errors import UsageError

if TYPE_CHECKING:
    from bughunt_mutator import Facts, Mutant
    from bughunt_mutator.operator import Operator

    from bughunt.bugsets.rebaseline import Baseline


@click.group("operators", invoke_without_command=True)
@json_option
@click.pass_context
def operators_command(context: click.Context) -> None:
    """The kinds of mistake that bughunt can make."""
    if context.invoked_subcommand is None:
        context.invoke(list_operators)


@operators_command.command("list")
@json_option
@click.pass_obj
def list_operators(session: Session) -> None:
    """All operators: category, difficulty, the rows of the catalogue they write."""
    from bughunt.show.tables import table

    operators = _operators()
    if session.json:
        emit("operators", operators=[_operator(o) for o in operators.values()])
        return
    head = ("operator", "category", "difficulty", "rows")
    rows = [(o.id, o.category, str(o.difficulty), str(len(o.rows))) for o in operators.values()]
    session.say(table([head, *rows]))


@operators_command.command("show")
@click.argument("id_", metavar="ID")
@json_option
@click.pass_obj
def show_operator(session: Session, id_: str) -> None:
    """One operator: what it writes, why people make it, how to find and repair it. A spoiler."""
    from bughunt_mutator.essay import essay, is_folklore, rows_of

    operators = _operators()
    if id_ not in operators:
        raise UsageError(f"no operator '{id_}'", _near(id_, list(operators)))
    found = operators[id_]
    if session.json:
        more = {"symptom": found.symptom, "mechanism": found.mechanism, "repair": found.repair}
        rows = [asdict(row) for row in rows_of(found)]
        emit("operator", **_operator(found), **more, catalogue=rows, folklore=is_folklore(found))
        return
    session.say(f"# {found.id}\n\n{essay(found)}")


@operators_command.command("docs")
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.pass_obj
def write_operator_pages(session: Session, folder: Path) -> None:
    """Write an index and a page for each category of operators into a folder."""
    from bughunt_mutator.essay import pages

    folder.mkdir(parents=True, exist_ok=True)
    found = pages(_operators())
    for name, text in found.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    session.say(f"{len(found)} pages in {folder}")


def _operators() -> "dict[str, Operator]":
    from bughunt_mutator.registry import load_operators

    found = load_operators()
    return {id_: found[id_] for id_ in sorted(found)}


def _operator(found: "Operator") -> dict[str, object]:
    return {
        "id": found.id,
        "category": found.category,
        "difficulty": found.difficulty,
        "evidence": list(found.evidence),
        "rows": list(found.rows),
    }


def _near(word: str, known: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(word, known, n=2)
    return f"Did you mean {' or '.join(near)}?" if near else "bughunt operators lists them"


@click.group("references", invoke_without_command=True)
@json_option
@click.pass_context
def references_command(context: click.Context) -> None:
    """The correct programs that bugs are put into."""
    if context.invoked_subcommand is None:
        context.invoke(list_references)


@references_command.command("list")
@json_option
@click.pass_obj
def list_references(session: Session) -> None:
    """All reference programs: kind, CPU seconds, topics; then the topics that have none."""
    from bughunt import references
    from bughunt.references.topics import BY_COMMAND, UNCOVERED
    from bughunt.show.tables import table

    listing = references.listing()
    if session.json:
        emit("references", references=listing, by_command=dict(BY_COMMAND), uncovered=dict(UNCOVERED))
        return
    head = ("program", "kind", "cpu s", "title", "topics")
    rows = [
        (r["slug"], r["kind"], f"{r['cpu_seconds']:g}", r["title"], " ".join(r["topics"])) for r in listing
    ]
    session.say(table([head, *rows]))
    session.say("\nPractised with a command on any of them:")
    session.say(table([(topic, f"bughunt {command}") for topic, command in BY_COMMAND.items()]))
    session.say("\nUNCOVERED, neither a program nor a command yet:")
    session.say(table(list(UNCOVERED.items())))


@references_command.command("check")
@click.argument("slug", required=False)
@json_option
@click.pass_obj
def check_references(session: Session, slug: str | None) -> int:
    """Measure programs anew: CPU seconds, metric against band, behaviour tests."""
    from bughunt import references
    from bughunt.bugsets.measure import measure
    from bughunt.judge.judge import Judge

    wanted = [references.load(slug).slug] if slug else references.slugs()
    measured = []
    with Judge() as judge:
        for name in wanted:
            session.remark(f"measuring {name}")
            measured.append(measure(judge, name))
    if session.json:
        emit("references-check", references=measured)
    else:
        for row in measured:
            session.say("   ".join(f"{key} {value}" for key, value in row.items()))
    return 0 if all(row.get("ok", True) for row in measured) else 1


@references_command.command("rebaseline")
@click.argument("slug", required=False)
@click.option("--write", "store", is_flag=True, help="Put the bands that have moved into the tasks.")
@json_option
@click.pass_obj
def rebaseline_references(session: Session, slug: str | None, *, store: bool) -> int:
    """Measure bands anew over ten seeds and show what has moved, as after an update of torch."""
    from bughunt import references
    from bughunt.bugsets import rebaseline
    from bughunt.judge.judge import Judge

    wanted = [references.load(slug).slug] if slug else references.slugs()
    measured = []
    with Judge() as judge:
        for name in wanted:
            session.remark(f"measuring {name}")
            found = rebaseline.rebaseline(judge, name)
            if found is None:
                continue
            measured.append(found)
            if store and found.moved:
                session.remark(f"written {rebaseline.write(found)}")
    if session.json:
        emit("references-rebaseline", references=[_baseline(one) for one in measured])
    else:
        from bughunt.show.tables import table

        head = ("program", "reached", "noted", "band", "proposed", "moved")
        session.say(table([head, *(_baseline_row(one) for one in measured)]))
    return 0 if store or not any(one.moved for one in measured) else 1


def _baseline(found: "Baseline") -> dict[str, object]:
    return {
        "slug": found.slug,
        "metrics": list(found.metrics),
        "deviation": found.deviation,
        "noted": found.noted and list(found.noted),
        "band": list(found.band),
        "proposed": list(found.proposed),
        "moved": found.moved,
    }


def _baseline_row(found: "Baseline") -> tuple[str, ...]:
    pairs = (found.reached, found.noted, found.band, found.proposed)
    shown = ["-" if pair is None else f"{pair[0]:.3g} to {pair[1]:.3g}" for pair in pairs]
    return (found.slug, *shown, "moved" if found.moved else "")


@click.command("mutate")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--operator", "operators", multiple=True, help="Only this operator; repeatable.")
@click.option("--key", help="Print the file with this mutant's change made.")
@click.option("--task", "slug", help="Run the file as this program first: more bugs, none that stops it.")
@json_option
@click.pass_obj
def mutate_command(
    session: Session, file: Path, operators: tuple[str, ...], key: str | None, slug: str | None
) -> None:
    """List every bug that the operators could write into a Python file."""
    from bughunt_mutator import SourceError, SourceFile, enumerate_mutants

    from bughunt.show.tables import table

    text = file.read_bytes().decode("utf-8", errors="surrogateescape")
    unknown = sorted(set(operators) - set(_operators()))
    if unknown:
        raise UsageError(f"no operator '{unknown[0]}'", _near(unknown[0], list(_operators())))
    try:
        known = _facts(file, SourceFile(text).source, slug) if slug else {}
        mutants = enumerate_mutants(text, frozenset(operators) or None, known)
    except SourceError as error:
        raise UsageError(f"{file} {error}", "mutate reads Python files of up to 20,000 lines") from error
    if key:
        found = next((m for m in mutants if m.key == key), None)
        if found is None:
            raise UsageError(f"no mutant '{key}' in {file}", f"bughunt mutate {file}")
        write(found.apply(text).removesuffix("\n"))
    elif session.json:
        emit("mutate", file=str(file), mutants=[_mutant(m) for m in mutants])
    else:
        rows = [(str(m.line), m.operator, m.key) for m in mutants]
        session.say(table([("line", "operator", "key"), *rows]) if rows else "Nothing to mutate.")


def _facts(file: Path, text: str, slug: str) -> "Facts":
    """What the expressions of a file are when it runs in the place of a program's file of its name."""
    from bughunt import references
    from bughunt.bugsets import facts
    from bughunt.bugsets.evaluate import Evaluator, Job

    files = references.load(slug).files
    name = file.name if file.name in files else "train.py"
    with Evaluator(workers=1) as evaluate:
        (found,) = evaluate([Job(slug, "default", {**files, name: text}, facts=facts.FORMAT)])
    if found.error:
        raise UsageError(f"{file} does not run as {slug}: {found.error}", "leave out --task")
    return facts.parsed(found.facts)[name]


def _mutant(mutant: "Mutant") -> dict[str, object]:
    return {
        "key": mutant.key,
        "operator": mutant.operator,
        "row": mutant.row,
        "line": mutant.line,
        "edits": [edit.shown() for edit in mutant.edits],
    }
