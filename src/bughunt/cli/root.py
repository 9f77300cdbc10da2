"""The root command: global options, and a table of commands that are imported when they are called."""

import importlib
from pathlib import Path

import click

from bughunt import __version__
from bughunt.cli.session import Session, json_option

GROUPS: dict[str, dict[str, str]] = {
    "Hunt": {
        "next": "bughunt.cli.place",
        "check": "bughunt.cli.solve",
        "hint": "bughunt.cli.reveal",
        "note": "bughunt.cli.solve",
        "submit": "bughunt.cli.solve",
        "explain": "bughunt.cli.reveal",
        "giveup": "bughunt.cli.reveal",
    },
    "Find your way": {
        "status": "bughunt.cli.place",
        "list": "bughunt.cli.place",
        "goto": "bughunt.cli.place",
        "diff": "bughunt.cli.place",
        "reset": "bughunt.cli.place",
        "curve": "bughunt.cli.curve",
    },
    "Make bug sets": {
        "operators": "bughunt.cli.library",
        "references": "bughunt.cli.library",
        "mutate": "bughunt.cli.library",
        "generate": "bughunt.cli.sets",
        "set": "bughunt.cli.sets",
    },
    "Compete": {
        "host": "bughunt.cli.host",
        "admin": "bughunt.cli.admin",
        "join": "bughunt.cli.team",
        "board": "bughunt.cli.team",
    },
    "This machine": {
        "doctor": "bughunt.cli.machine",
        "completion": "bughunt.cli.machine",
    },
}
COMMANDS = {name: module for group in GROUPS.values() for name, module in group.items()}
EXAMPLES = """\b
bughunt next       open a challenge and read its brief
bughunt check      judge your file, free and as often as you like
bughunt submit     judge it on hidden seeds, for the score
"""


class Root(click.Group):
    """Commands by name; each module is imported only when one of its commands is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*COMMANDS, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        module = importlib.import_module(COMMANDS[cmd_name])
        return getattr(module, f"{cmd_name}_command")

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            import difflib  # for who mistypes

            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=2)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise click.UsageError(f"no command '{args[0]}'.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in GROUPS.items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            rows = [(name, c.get_short_help_str(70)) for name, c in commands if c is not None]
            with formatter.section(title):
                formatter.write_dl(rows)


@click.group(
    cls=Root,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help=f"A debugging-challenge game of broken model code.\n\n{EXAMPLES}",
)
@click.option(
    "--workspace",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder of your work (else BUGHUNT_HOME, the nearest hunt/, ./hunt).",
)
@click.option("--color/--no-color", default=None, help="Colour, whatever the environment says.")
@click.option("--ascii", "ascii_only", is_flag=True, help="Draw with ASCII only.")
@click.option("--no-input", is_flag=True, help="Never ask; refuse instead.")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no remarks.")
@click.version_option(__version__, prog_name="bughunt")
@json_option
@click.pass_context
def root(
    context: click.Context,
    workspace: Path | None,
    color: bool | None,
    ascii_only: bool,
    no_input: bool,
    quiet: bool,
) -> None:
    session = context.ensure_object(Session)
    session.folder, session.color, session.ascii = workspace, color, ascii_only
    session.no_input, session.quiet = no_input, quiet
    context.color = session.screen.color
    if context.invoked_subcommand is None:
        from bughunt.cli.place import where_am_i

        where_am_i(session)
