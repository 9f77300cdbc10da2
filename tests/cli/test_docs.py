"""Every command has help and is in the documents, and the documents name no command that is not there."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from bughunt.cli.root import COMMANDS, GROUPS, root

DOCS = Path(__file__).parents[2] / "docs"
TEXT = "".join(path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md")))


def commands(group: click.Group, prefix: str = "bughunt") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{prefix} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix} {name}")


FOUND = dict(commands(root))


@pytest.mark.parametrize("name", FOUND)
def test_every_command_has_help(name):
    assert FOUND[name].help


@pytest.mark.parametrize("name", FOUND)
def test_every_command_is_in_the_documents(name):
    assert re.search(rf"`{name}\b", TEXT)


@pytest.mark.parametrize("name", FOUND)
def test_every_option_has_help_or_says_enough_by_its_name(name):
    described = {"count", "seed", "device"}
    for option in FOUND[name].params:
        if isinstance(option, click.Option):
            assert option.help or option.name in described, option.name


def test_the_documents_name_only_commands_that_exist():
    named = set(re.findall(r"`bughunt ([a-z]+)", TEXT))
    assert named <= {name.split()[1] for name in FOUND}


def test_each_command_stands_in_one_group():
    assert sorted(COMMANDS) == sorted(name for group in GROUPS.values() for name in group)


def test_each_command_has_the_name_it_is_called_by():
    assert all(command.name == full.split()[-1] for full, command in FOUND.items())
