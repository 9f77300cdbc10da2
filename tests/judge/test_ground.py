"""The proving ground's own claims: its edits fit, its generated files are what they are said to be."""

import ast
import random
import re
import sys
import tomllib
from pathlib import Path

import pytest

from bughunt import references

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from matrix.record import is_excused  # noqa: E402
from proving import ground, ledger, page, proofs, rewrites  # noqa: E402

from bughunt.judge.case import Case  # noqa: E402
from bughunt.judge.judge import Judge  # noqa: E402

HAND_MADE = [
    pytest.param(path.stem, kind, name, edits, id=f"{path.stem} {kind} {name}")
    for path in sorted(ground.HAND_MADE.glob("*.toml"))
    for kind, entries in tomllib.loads(path.read_text(encoding="utf-8")).items()
    for name, edits in entries.items()
]


@pytest.fixture(scope="module")
def judge():
    with Judge() as judge:
        yield judge


@pytest.mark.parametrize(("slug", "kind", "name", "edits"), HAND_MADE)
def test_an_edit_fits_its_reference_and_leaves_a_program(slug, kind, name, edits):
    files = references.load(slug).files
    changed = ground.edited(files, edits)
    assert kind in ("right", "wrong"), name
    assert changed != files
    for text in changed.values():
        ast.parse(text)


@pytest.mark.parametrize("name", rewrites.EXACT)
def test_an_exact_rewrite_keeps_every_bit(judge, name):
    for slug in ("numpy-mlp", "trainer-loop", "tiny-gpt", "optim-zoo", "lstm-varlen"):
        reference = references.load(slug)
        changed = rewrites.EXACT[name](reference.files, random.Random(1))
        if changed is not None:
            break
    assert changed is not None
    assert changed != reference.files
    assert proofs.equal(judge, reference, changed) == "bits"


@pytest.mark.parametrize("slug", references.slugs())
def test_what_the_tests_call_by_name_keeps_its_name_in_a_disguise(slug):
    reference = references.load(slug)
    made = set(re.findall(r"^(?:def|class) (\w+)", "\n".join(reference.files.values()), re.MULTILINE))
    called = re.findall(r"\.call\(\s*\"([\w.]+)\"", reference.test_path.read_text(encoding="utf-8"))
    known = {part for name in reference.task.exports for part in name.split(".")}
    assert {name.split(".")[-1] for name in called} & made <= known | rewrites.CONTRACT


def test_the_proof_of_equality_sees_a_mutant(judge):
    reference = references.load("numpy-mlp")
    broken = ground.mutated(reference.files, ground.mutants("numpy-mlp")[0])
    assert proofs.equal(judge, reference, broken) == ""
    assert proofs.elsewhere(judge, reference, broken)
    assert not proofs.elsewhere(judge, reference, reference.files)


@pytest.mark.parametrize("slug", [slug for slug in references.slugs() if references.load(slug).task.trains])
def test_other_draws_are_the_only_change(slug):
    _assert_draws_are_added(references.load(slug).files)


@pytest.mark.parametrize(
    ("slug", "drawn"), [("ctr-ranker", "torch.rand("), ("grid-vi", ".random("), ("numpy-mlp", ".random(")]
)
@pytest.mark.parametrize("seed", range(4))
def test_a_disguise_does_not_hide_whose_generator_it_is(slug, drawn, seed):
    disguised = rewrites.disguised(references.load(slug).files, random.Random(seed))
    _assert_draws_are_added(disguised, drawn)


def _assert_draws_are_added(files, how=""):
    changed = rewrites.other_draws(files, random.Random(1))
    assert changed is not None
    added = [
        line for path in files for line in changed[path].splitlines() if line not in files[path].splitlines()
    ]
    assert 1 <= len(added) <= 2
    draw = r"    (torch\.rand|_?rng\.random)\(\d(, generator=rng)?\)"
    assert all(re.fullmatch(draw, line) and how in line for line in added)


def test_other_draws_make_another_run_of_the_same_kind(judge):
    reference = references.load("trainer-loop")
    changed = rewrites.other_draws(reference.files, random.Random(1))
    assert proofs.equal(judge, reference, changed) == ""
    assert proofs.elsewhere(judge, reference, changed)


@pytest.mark.parametrize(
    ("slug", "right", "wrong"),
    [
        # All weights begin at zero: single runs part at the second step, although no batch is the same.
        ("stream-hash", "index, labels, cfg)", "index, 1 - labels, cfg)"),
        # A node that is not split has an infinite threshold: what is added to it is no number.
        ("gbm-newton", "cfg.lr * tree", "0.5 * cfg.lr * tree"),
    ],
)
def test_other_draws_are_as_good(judge, slug, right, wrong):
    reference = references.load(slug)
    case = Case(reference.task, reference.files, reference.test_path)
    changed = rewrites.other_draws(reference.files, random.Random(1))
    seen = judge.differential(changed, reference.files, reference.task, 7001)
    assert not seen.passed
    assert judge.equal_moments(changed, case, 7001, parted=seen.first_step)
    assert right in changed["train.py"]
    bad = {**changed, "train.py": changed["train.py"].replace(right, wrong)}
    assert not judge.equal_moments(bad, case, 7001, parted=seen.first_step)


def test_a_mutant_that_is_known_to_be_equivalent_is_not_called_wrong():
    reference = references.load("tsne-mini")
    excused = [m for m in ground.mutants("tsne-mini") if is_excused("tsne-mini", m, reference.files)]
    assert len(excused) == 1
    wrong = [file.files for file in ground.generated_wrong(reference, ground.mutants("tsne-mini")[0], 1)]
    assert ground.mutated(reference.files, excused[0]) not in wrong
    assert len(wrong) > 40


def test_the_same_seed_gives_the_same_files():
    reference = references.load("numpy-mlp")
    first, second = (
        [file for file, _ in zip(ground.generated_right(reference, 3), range(4), strict=False)]
        for _ in range(2)
    )
    assert first == second
    assert len({str(file.files) for file in first}) == 4


def test_bounds_are_those_of_clopper_and_pearson():
    # 0 of n: 1 - 0.05 ** (1 / n); 1 of 10 by the tables of the F distribution: 0.0025 to 0.4450.
    assert page.bounds(0, 600) == pytest.approx((0.0, 0.00498), abs=1e-5)
    assert page.bounds(1, 10) == pytest.approx((0.0025, 0.4450), abs=1e-4)


def test_the_page_tells_what_was_found():
    told = (ROOT / "docs" / "verdicts.md").read_text(encoding="utf-8")
    assert told == page.page(ground.verdicts(ledger.Ledger()))
