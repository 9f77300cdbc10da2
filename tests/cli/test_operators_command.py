"""`bughunt operators`: the list, an essay, the pages."""

import json
from pathlib import Path

import pytest
from bughunt_mutator.essay import essay, pages
from bughunt_mutator.registry import load_operators
from click.testing import CliRunner

from bughunt.cli.root import root
from bughunt.errors import UsageError


def run(*arguments: str) -> str:
    result = CliRunner().invoke(root, ["operators", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_list_has_every_operator_with_the_agreed_keys():
    listed = json.loads(run("--json"))["operators"]
    assert [each["id"] for each in listed] == sorted(load_operators())
    keys = {"id", "category", "difficulty", "evidence", "rows"}
    assert all(set(each) == keys for each in listed)


def test_an_operator_is_shown_with_its_whole_essay():
    assert essay(load_operators()["causal-mask-missing"]) in run("show", "causal-mask-missing")


def test_an_operator_tells_machines_its_rows():
    told = json.loads(run("show", "vae-mean-for-sum", "--json"))
    assert [row["id"] for row in told["catalogue"]] == ["vae-kl-mean-dims", "vae-recon-mean-kl-sum"]
    assert told["folklore"] is False


def test_an_operator_that_is_not_there_is_answered_with_its_neighbours():
    with pytest.raises(UsageError) as refused:
        run("show", "causal-mask-mising")
    assert "causal-mask-missing" in (refused.value.remedy or "")


def test_the_pages_are_written_into_a_folder(tmp_path: Path):
    run("docs", str(tmp_path / "new"))
    found = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "new").iterdir()}
    assert found == pages(load_operators())
