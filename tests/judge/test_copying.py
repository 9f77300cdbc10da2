"""Whose text a program is: changed lines, and a pasted reference."""

import pytest
from bughunt_mutator import disguise_tree, enumerate_tree, load_rewrites, mutated

from bughunt import references
from bughunt.judge.copying import alike, change, pasted

KEEP = frozenset({"Config", "build", "train", "predict"})
SLUGS = ("vae-digits", "tiny-gpt", "numpy-mlp", "trainer-loop")


def challenge(slug):
    """The plain reference, and in one disguise the broken and the repaired program."""
    files = references.load(slug).files
    keep = KEEP | frozenset(references.load(slug).task.exports)
    cover = disguise_tree(files, 11, keep, enumerate_tree(files)[:1])
    return files, cover.broken(), cover.files, keep


@pytest.mark.parametrize("slug", SLUGS)
def test_an_honest_repair_is_not_taken_for_a_copy(slug):
    files, broken, repaired, _ = challenge(slug)
    assert not pasted(repaired, broken, files)
    assert not pasted(broken, broken, files)


@pytest.mark.parametrize("slug", SLUGS)
def test_the_shipped_reference_in_the_place_of_the_challenge_is_a_copy(slug):
    files, broken, _, _ = challenge(slug)
    assert pasted(files, broken, files)


@pytest.mark.parametrize("slug", SLUGS)
def test_other_names_do_not_hide_a_copy(slug):
    files, broken, _, keep = challenge(slug)
    renamed = disguise_tree(files, 99, keep, leave_out=frozenset(load_rewrites()))
    assert pasted(renamed.files, broken, files)


def test_without_a_disguise_nobody_can_tell_a_copy_from_a_repair():
    files = references.load("vae-digits").files
    broken = mutated(files, enumerate_tree(files)[0])
    assert not pasted(files, broken, files)


def test_another_program_under_other_names_is_no_copy():
    files, broken, _, _ = challenge("vae-digits")
    other = references.load("tiny-gpt").files
    assert not pasted(other, broken, files)
    assert alike(other, files) < 0.5


def test_layout_comments_and_docstrings_are_no_change():
    before = {"train.py": "def f(x):\n    return x + 1\n"}
    after = {"train.py": '"""New."""\n\ndef f( x ):\n    """Adds."""\n    # one more\n    return (x+1)\n'}
    assert change(before, after, {"train.py": "def f(x):\n    return x + 2\n"}).lines == 0


def test_changed_lines_are_counted_beside_those_of_the_known_repair():
    before = {"train.py": "a = 1\nb = 2\nc = 3\n"}
    after = {"train.py": "a = 1\nb = 3\nc = 4\nd = 5\n"}
    found = change(before, after, {"train.py": "a = 1\nb = 3\nc = 3\n"})
    assert (found.lines, found.par) == (3, 1)
