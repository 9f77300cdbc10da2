"""Every topic of the curriculum is practised on a program or with a command, or is said to be missing."""

import subprocess
from pathlib import Path

import click
import pytest

from bughunt import references
from bughunt.cli.root import root

TOPICS = [f"S{number}" for number in range(1, 80)]

# Topics that no program is about: practised with a command whose tests run it.
COMMANDS = {
    "S29": "next",  # debugging scenarios in existing implementations
    "S47": "check",  # too much theory, too little implementation
    "S50": "note",  # communication: what was seen and suspected, in words
    "S52": "next",  # misread requirements: the brief says what is asked
    "S69": "submit",  # identify and fix
}

# Neither a program nor a command yet.
UNCOVERED = {
    "S5",  # collaboration and project experience
    "S42",  # mock interviews and weak areas
    "S44",  # a repository of one's own
    "S45",  # feedback from practitioners
    "S46",  # breadth and depth
    "S48",  # implementation without principles
    "S51",  # time management
    "S53",  # unasked assumptions
    "S54",  # alternatives and trade-offs
}

# Topics of a program that may not be in this tree; once it is, it has to name them.
AWAITED = {
    "S4": "two-tower",
    "S31": "dag-pipeline",
    "S32": "cv-harness",
    "S34": "microbatch-server",
    "S36": "drift-monitor",
    "S37": "microbatch-server",
    "S55": "metrics-kit",
    "S63": "dag-pipeline",
    "S72": "stream-hash",
    "S78": "cv-harness",
}


def awaited() -> set[str]:
    return {topic for topic, slug in AWAITED.items() if slug not in references.slugs()}


def by_programs() -> set[str]:
    return {topic for row in references.listing() for topic in row["topics"]}


def test_programs_name_topics_that_exist() -> None:
    assert by_programs() <= set(TOPICS)


def test_what_is_said_to_be_missing_is_missing() -> None:
    assert not UNCOVERED & by_programs()
    assert not UNCOVERED & COMMANDS.keys()
    assert UNCOVERED | COMMANDS.keys() <= set(TOPICS)


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_is_practised_or_said_to_be_missing(topic: str) -> None:
    assert topic in by_programs() | COMMANDS.keys() | UNCOVERED | awaited()


@pytest.mark.parametrize("command", sorted(set(COMMANDS.values())))
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
