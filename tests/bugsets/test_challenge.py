import pytest

from bughunt.bugsets import write
from bughunt.bugsets.challenge import BugSet, Challenge, Curves
from bughunt.bugsets.sealed import Sealed
from bughunt.errors import IntegrityError

TEXT = "def build(cfg):\r\n    return None  # ünïcode\r\n"
PROGRAM = {"train.py": TEXT}
CURVES = Curves([0, 1], [[1.0, 0.5]], [[1.0, float("nan")]], [0.9], [0.1], [3])
SEALED = Sealed(
    reference="tiny-gpt",
    operators=["zero-grad-missing"],
    rows=["zero-grad-missing"],
    category="autograd",
    hints=["look", "where", "what"],
    post_mortem="It was …",
    evidence=["https://example.org"],
    repaired=PROGRAM,
    where=["train.py:train"],
    fail_to_pass=["test_a"],
    pass_to_pass=["test_b"],
    seeds=[1, 2, 3],
    label="visible",
    provenance={"edits": []},
)
FIELDS = {
    "title": 'A "quoted" title – with a dash',
    "reference": "tiny-gpt",
    "configuration": "default",
    "level": 2,
    "minutes": 15,
    "metric": "accuracy",
    "curve": "held-out loss",
    "steps": None,
    "tests": 2,
    "bugs": 1,
}


@pytest.fixture
def folder(tmp_path):
    id_ = write.challenge(tmp_path, FIELDS, PROGRAM, "**Report.** …\n", CURVES, SEALED)
    write.bugset(tmp_path, "a-set", [id_], 7, "0.1.0")
    return tmp_path / id_


def test_a_challenge_comes_back_as_it_was_written(folder):
    challenge = _load(folder)
    assert challenge.title == FIELDS["title"]
    assert challenge.program() == PROGRAM
    assert challenge.sealed() == SEALED
    assert repr(challenge.curves()) == repr(CURVES)


def test_a_set_lists_its_challenges_in_order(folder):
    bugset = BugSet.load(folder.parent)
    assert [challenge.id for challenge in bugset.challenges()] == [folder.name]


def test_the_same_content_has_the_same_id(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    assert write.challenge(other, FIELDS, PROGRAM, "another brief", CURVES, SEALED) == folder.name
    assert write.challenge(other, FIELDS, {"train.py": TEXT + "#"}, "", CURVES, SEALED) != folder.name


def test_a_program_of_several_files_comes_back_with_all_of_them(tmp_path):
    files = {"train.py": "from model import build\n", "model.py": TEXT}
    id_ = write.challenge(tmp_path, FIELDS, files, "", CURVES, SEALED)
    assert Challenge.load(tmp_path / id_).program() == files
    moved = {"train.py": files["train.py"], "layers.py": TEXT}
    assert write.identity("tiny-gpt", "default", moved) != id_


def test_the_seal_hides_the_bug_from_a_search(folder):
    for path in folder.iterdir():
        assert b"zero-grad" not in path.read_bytes()


@pytest.mark.parametrize("name", ["challenge.toml", "sealed.dat", "curves.json", "train.py"])
def test_a_damaged_file_is_named_with_the_remedy(folder, name):
    (folder / name).write_bytes(b"\xff\x00 = [")
    with pytest.raises(IntegrityError, match=name) as caught:
        _read(folder)
    assert "generate it again" in caught.value.remedy


def test_a_truncated_seal_is_an_integrity_error(folder):
    path = folder / "sealed.dat"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(IntegrityError, match=r"sealed\.dat"):
        _load(folder).sealed()


def test_a_set_from_another_format_is_refused(folder):
    path = folder / "challenge.toml"
    path.write_text(path.read_text().replace("format_version = 1", "format_version = 99"))
    with pytest.raises(IntegrityError, match="99"):
        _load(folder)


def _load(folder):
    return Challenge.load(folder)


def _read(folder):
    challenge = _load(folder)
    return challenge.program(), challenge.sealed(), challenge.curves()
