"""Every topic of the curriculum is practised on a program or with a command, or is said to be missing."""

import subprocess
from pathlib import Path

import click
import pytest

from bughunt import references
from bughunt.cli.root import root
from bughunt.references.topics import BY_COMMAND, UNCOVERED

EVERY = [f"S{number}" for number in range(1, 80)]


def by_programs() -> set[str]:
    return {topic for row in references.listing() for topic in row["topics"]}


def test_programs_name_topics_that_exist() -> None:
    assert by_programs() <= set(EVERY)


def test_what_is_said_to_be_missing_is_missing() -> None:
    assert not UNCOVERED.keys() & by_programs()
    assert not UNCOVERED.keys() & BY_COMMAND.keys()
    assert UNCOVERED.keys() | BY_COMMAND.keys() <= set(EVERY)


@pytest.mark.parametrize("topic", EVERY)
def test_a_topic_is_practised_or_said_to_be_missing(topic: str) -> None:
    assert topic in by_programs() | BY_COMMAND.keys() | UNCOVERED.keys()


@pytest.mark.parametrize("command", sorted(set(BY_COMMAND.values())))
def test_a_command_that_stands_for_a_topic_exists_and_is_run_by_a_test(command: str) -> None:
    assert command in root.list_commands(click.Context(root))
    tests = Path(__file__).parents[1]
    run = subprocess.run(
        ["grep", "-rlE", rf'"{command}"', "--include=test_*.py", "--exclude=test_topics.py", tests],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.split()
