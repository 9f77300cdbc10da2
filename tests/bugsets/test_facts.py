"""Facts are recorded in a worker, and only where the program does not notice."""

import ast
import json
from dataclasses import replace

import pytest
from bughunt_mutator.facts import Places

from bughunt import references
from bughunt.bugsets import facts
from bughunt.bugsets.evaluate import Evaluator, Job
from bughunt.bugsets.generate import facts_of
from bughunt.judge.judge import Judge
from bughunt.judge.program import ProgramError

CHEAP = ("kmeans-pp", "linear-models", "tensor-kit")
NOSY = """

def predict(model, inputs):
    import pathlib
    return _predict(model, inputs) + len(pathlib.Path(__file__).read_text())
"""


@pytest.fixture(scope="module")
def judge():
    with Judge() as judge:
        yield judge


@pytest.mark.parametrize("slug", CHEAP)
def test_a_program_answers_to_the_same_bit_while_facts_are_recorded(judge, slug):
    """`record` compares the fingerprints itself: losses, weights, predictions, what the tests receive."""
    reference = references.load(slug)
    found = facts.parsed(facts.record(judge, reference.files, reference, 0))
    assert set(found) == set(reference.files)
    numbered = facts.instrumented(reference.files)[1]
    assert sum(map(len, found.values())) >= 0.55 * len(numbered)


def test_facts_are_what_the_configuration_says(judge):
    """Pixels and codes of the autoencoder have the sizes that its configuration names."""
    reference = references.load("vae-digits")
    found = facts.parsed(facts.record(judge, reference.files, reference, 0))["train.py"]
    places, by_text = Places(reference.files["train.py"]), {}
    for node in ast.walk(places.tree):
        if isinstance(node, ast.expr) and (seen := found.get(places.span(node))):
            by_text.setdefault(ast.unparse(node), set()).update(seen.facts)
    with judge.open(reference.files, reference.task) as program:
        config = program.config()
    assert {fact.kind for fact in by_text["cfg"]} == {"Config"}
    assert config["latent"] in {fact.value for fact in by_text["cfg.latent"]}
    assert config["side"] ** 2 in {fact.value for fact in by_text["cfg.side * cfg.side"]}
    flat = {fact.shape for fact in by_text["pixels"] if fact.kind == "tensor"}
    assert (config["batch"], config["side"] ** 2) in flat


def test_a_program_that_reads_its_own_text_gives_no_facts(judge):
    reference = references.load("kmeans-pp")
    text = reference.files["train.py"].replace("def predict(", "def _predict(") + NOSY
    with pytest.raises(ProgramError, match="while facts are recorded"):
        facts.record(judge, {"train.py": text}, reference, 0)


def test_a_set_is_made_without_facts_where_they_cannot_be_had(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    reference = references.load("kmeans-pp")
    text = reference.files["train.py"].replace("def predict(", "def _predict(") + NOSY
    said = []
    with Evaluator(workers=1) as evaluate:
        found = facts_of(replace(reference, files={"train.py": text}), evaluate, said.append)
    assert found == {}
    assert [line.partition(":")[0] for line in said] == ["kmeans-pp"]


def test_facts_are_recorded_once_and_remembered_beside_other_findings(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    reference = references.load("kmeans-pp")
    job = Job("kmeans-pp", "default", reference.files, facts=facts.FORMAT)
    with Evaluator(workers=1) as evaluate:
        (first,) = evaluate([job])
    on_disk = [json.loads(path.read_text()) for path in (tmp_path / "bughunt" / "findings").iterdir()]
    assert len(on_disk) == 1
    with Evaluator(workers=0) as evaluate:  # which could run nothing
        (again,) = evaluate([job])
    assert facts.parsed(again.facts) == facts.parsed(first.facts)
    assert facts.parsed(on_disk[0]["facts"]) == facts.parsed(first.facts)


def test_facts_are_the_same_each_time(judge):
    reference = references.load("tensor-kit")
    one, two = (facts.record(judge, reference.files, reference, 0) for _ in range(2))
    assert one == two
