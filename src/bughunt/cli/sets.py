"""Bug sets: list them, prove them, make new ones."""

from pathlib import Path

import click

from bughunt.cli.output import emit
from bughunt.cli.session import Session, json_option


@click.group("set")
def set_command() -> None:
    """The bug sets on this machine."""


@set_command.command("list")
@json_option
@click.pass_obj
def list_sets(session: Session) -> None:
    """All sets and how many challenges they hold."""
    from bughunt.bugsets import library
    from bughunt.show.tables import table

    found = library.sets()
    if session.json:
        emit("set-list", sets=[{"name": s.name, "challenges": len(s.order)} for s in found])
        return
    rows = [(s.name, str(len(s.order)), s.title) for s in found]
    session.say(table([("set", "challenges", "title"), *rows]) if rows else "There is no set yet.")


@set_command.command("verify")
@click.argument("name")
@click.option("--sample", type=click.IntRange(1), help="Only so many, evenly over the set.")
@click.option("--quick", is_flag=True, help="Both verdicts on one seed, nothing more.")
@json_option
@click.pass_obj
def verify_set(session: Session, name: str, sample: int | None, quick: bool) -> int:
    """Prove a set again: broken programs fail, repaired ones pass, nothing gives them away."""
    from bughunt.bugsets import library
    from bughunt.bugsets.verify import verify

    reports = verify(library.find_set(name), sample, quick, session.remark)
    if session.json:
        rows = [
            {
                "id": report.id,
                "ok": report.ok,
                "label": report.label,
                "broken": {"verdict": str(report.broken)},
                "repaired": {"verdict": str(report.repaired)},
                "reasons": list(report.reasons),
            }
            for report in reports
        ]
        emit("set-verify", set=name, challenges=rows)
    else:
        for report in reports:
            told = f"{report.label}, broken {report.broken}, repaired {report.repaired}"
            session.say(f"{'✓' if report.ok else '✗'} {report.id}  {told}")
            for reason in report.reasons:
                session.say(f"    {reason}")
        kept = sum(report.ok for report in reports)
        session.say(f"{kept} of {len(reports)} keep every promise")
    return 0 if all(report.ok for report in reports) else 1


@click.command("generate")
@click.option("--set", "name", required=True, help="Name of the new set.")
@click.option("--count", type=click.IntRange(1), default=10, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--reference", "slugs", multiple=True, help="Only this program; repeatable.")
@click.option("--operator", "operators", multiple=True, help="Only this operator; repeatable.")
@click.option("--bugs", type=click.IntRange(1, 3), default=1, show_default=True, help="Bugs in each program.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of sets to write to.")
@json_option
@click.pass_obj
def generate_command(
    session: Session,
    name: str,
    count: int,
    seed: int,
    slugs: tuple[str, ...],
    operators: tuple[str, ...],
    bugs: int,
    out: Path | None,
) -> None:
    """Write a new bug set; the same seed and version give the same set."""
    from bughunt.bugsets import library
    from bughunt.bugsets.generate import generate

    target = out or library.default_out()
    made = generate(name, count, seed, slugs, operators, target, session.remark, bugs=bugs)
    if session.json:
        emit("generate", set=made.name, folder=str(made.folder), challenges=list(made.order))
    else:
        session.say(f"{made.folder}: {len(made.order)} challenges")
        session.say(f"bughunt set verify {made.folder}")
