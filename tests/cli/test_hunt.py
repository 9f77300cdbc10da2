"""The hunt as a player types it, without the judge."""

import json
from pathlib import Path

import pytest

ID = "bh-aaaaa1"


def open_first(shell):
    """The open challenge without the data, which would need torch."""
    workspace = shell.here / "hunt"
    folder = workspace / ID
    folder.mkdir(parents=True)
    (workspace / ".bughunt").mkdir()
    (workspace / ".bughunt" / "format").write_text("1\n")
    source = shell.sets / "tiny" / ID / "train.py"
    (folder / "train.py").write_bytes(source.read_bytes())
    add_events(shell, {"event": "take"})
    return workspace


def add_events(shell, *events):
    with open(shell.here / "hunt" / ".bughunt" / "log.jsonl", "a") as file:
        for event in events:
            record = {"time": "2026-01-01T00:00:00+00:00", "challenge": ID, **event}
            file.write(json.dumps(record) + "\n")


def check_event(number, **more):
    return {"event": "check", "attempt": number, "verdict": "UNFIXED", "score": 10.0, **more}


def test_bughunt_alone_says_how_to_start(shell):
    done = shell()
    assert done.code == 0
    assert "bughunt next" in done.out
    assert not (shell.here / "hunt").exists()


def test_status_without_a_workspace_says_how_to_start_and_changes_nothing(shell):
    done = shell("status")
    assert (done.code, "bughunt next" in done.out) == (0, True)
    assert shell("status", "--json").json["current"] is None
    assert list(shell.here.iterdir()) == []


def test_next_shows_the_brief_and_lays_out_the_files(shell):
    done = shell("next", "--set", "tiny", "--plot")
    assert done.code == 0, done.err
    assert "The loss climbs" in done.out
    assert "░ reference, 2 seeds" in done.out
    folder = shell.here / "hunt" / ID
    names = {path.name for path in folder.iterdir()}
    assert names == {"train.py", "run.py", "data.npz", "BRIEF.md"}
    assert "bughunt" not in (folder / "run.py").read_text()
    assert shell("status", "--json").json["current"] == ID


def test_next_never_overwrites_the_players_work(shell):
    workspace = open_first(shell)
    (workspace / ID / "train.py").write_text("mine = 1\n")
    assert shell("next", "--json").json["id"] == ID
    assert (workspace / ID / "train.py").read_text() == "mine = 1\n"


def test_skip_goes_on_to_the_next_challenge(shell):
    open_first(shell)
    assert shell("next", "--set", "tiny", "--skip", "--json").json["id"] == "bh-aaaaa2"
    known = shell("list", "--json").json["challenges"]
    states = {c["id"]: c["state"] for c in known if c["id"].startswith("bh-aaaaa")}
    assert states == {ID: "skipped", "bh-aaaaa2": "started"}


def test_an_unknown_id_gets_a_suggestion_and_code_2(shell):
    done = shell("goto", "bh-aaaa1")
    assert done.code == 2
    assert "Did you mean bh-aaaaa1" in done.err


def test_an_unknown_command_gets_a_suggestion_and_code_2(shell):
    done = shell("chekc")
    assert done.code == 2
    assert "Did you mean check" in done.err


def test_errors_are_json_when_asked_for(shell):
    done = shell("goto", "nothing", "--json")
    assert done.code == 2
    assert done.json["schema"] == "bughunt.error/1"
    assert done.json["error"]["code"] == "usage"
    assert done.err == ""


def test_a_workspace_of_another_version_is_refused(shell):
    workspace = open_first(shell)
    (workspace / ".bughunt" / "format").write_text("99\n")
    done = shell("status")
    assert done.code == 3
    assert "99" in done.err
    assert "Traceback" not in done.err


def test_an_unreadable_end_of_the_log_is_kept_and_the_game_goes_on(shell):
    workspace = open_first(shell)
    log = workspace / ".bughunt" / "log.jsonl"
    with open(log, "ab") as file:
        file.write(b'{"time": "2026-01')
    done = shell("status", "--json")
    assert done.code == 0
    assert done.json["current"] == ID
    assert (workspace / ".bughunt" / "log.jsonl.bak").read_bytes() == b'{"time": "2026-01'
    assert "kept in" in done.err
    assert shell("status").err == ""


def test_a_file_that_does_not_parse_is_told_by_line_without_torch(shell):
    workspace = open_first(shell)
    (workspace / ID / "train.py").write_text("x = 1\n  y = 2\n")
    done = shell("check", PYTHONPROFILEIMPORTTIME="1")
    assert done.code == 1
    assert "train.py line 2: IndentationError" in done.out
    assert " torch" not in done.err
    again = shell("check", "--json").json
    assert (again["verdict"], again["attempt"]) == ("ERROR", None)


def test_a_missing_program_names_the_remedy(shell):
    workspace = open_first(shell)
    (workspace / ID / "train.py").unlink()
    done = shell("check")
    assert done.code == 3
    assert f"bughunt reset {ID}" in done.err


def test_a_place_that_cannot_be_written_is_one_line_and_code_3(shell):
    (shell.here / "occupied").write_text("a file")
    done = shell("--workspace", "occupied/hunt", "next")
    assert done.code == 3
    assert "Traceback" not in done.err


def test_a_full_disk_is_one_line_and_code_3(shell):
    import subprocess
    import sys

    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "bughunt", "list"],
            cwd=shell.here,
            env=shell.environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 3
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_goes_away_is_no_error(shell):
    import subprocess
    import sys

    command = f"{sys.executable} -m bughunt operators list --json | head -c 1"
    done = subprocess.run(
        ["bash", "-c", command], cwd=shell.here, env=shell.environment(), capture_output=True
    )
    assert done.stderr == b""


@pytest.mark.parametrize("name", ["sealed.dat", "challenge.toml", "curves.json"])
def test_a_damaged_set_is_code_5(shell, name):
    open_first(shell)
    (shell.sets / "tiny" / ID / name).write_bytes(b"\xff\x00 not this")
    done = shell("hint", "--yes") if name == "sealed.dat" else shell("next")
    assert done.code == 5
    assert "damaged" in done.err


def test_a_hint_shows_its_price_and_opens_only_when_paid(shell):
    open_first(shell)
    refused = shell("hint")
    assert refused.code == 2
    assert "10 of 200 points" in refused.err
    opened = shell("hint", "--yes")
    assert opened.code == 0
    assert "LOOK" in opened.out


def test_the_next_hint_waits_for_evidence(shell):
    open_first(shell)
    shell("hint", "--yes")
    refused = shell("hint", "--yes")
    assert (refused.code, "bughunt note" in refused.err) == (1, True)
    shell("note", "the norm", "explodes")
    assert "WHERE" in shell("hint", "--yes").out
    assert "LOOK" in shell("hint", "--again").out


def test_after_the_last_hint_there_is_only_giving_up(shell):
    open_first(shell)
    for _ in range(3):
        shell("hint", "--yes")
        shell("note", "saw something")
    done = shell("hint", "--yes")
    assert (done.code, "giveup" in done.err) == (1, True)


def test_giving_up_asks_for_the_id(shell):
    open_first(shell)
    assert shell("giveup").code == 2
    assert shell("giveup", "--confirm", "bh-other").code == 2
    assert shell("explain").code == 2
    done = shell("giveup", "--confirm", ID)
    assert done.code == 0
    assert "It walked uphill." in done.out
    assert "-    return x + RATE * x" in done.out
    assert "https://example.org/issue/1" in done.out
    assert shell("explain", "--json").json["state"] == "given up"


def test_diff_is_against_the_broken_original(shell):
    workspace = open_first(shell)
    file = workspace / ID / "train.py"
    file.write_text(file.read_text().replace("10.0", "0.5"))
    done = shell("diff")
    assert "-RATE = 10.0" in done.out
    assert "+RATE = 0.5" in done.out
    assert shell("diff", "--stat").out == "train.py  1 line\n"


def test_reset_puts_the_original_back_and_keeps_the_work(shell):
    workspace = open_first(shell)
    file = workspace / ID / "train.py"
    original = file.read_bytes()
    file.write_text("mine = 1\n")
    assert shell("reset").code == 2
    assert shell("reset", "--yes").code == 0
    assert file.read_bytes() == original
    kept = list((workspace / ".bughunt" / "trash").glob("*/train.py"))
    assert [path.read_text() for path in kept] == ["mine = 1\n"]


def test_reset_goes_to_the_best_attempt(shell):
    workspace = open_first(shell)
    for number, score in ((1, 10.0), (2, 40.0), (3, 20.0)):
        folder = workspace / ".bughunt" / "attempts" / ID / f"{number:04d}"
        folder.mkdir(parents=True)
        (folder / "train.py").write_text(f"attempt = {number}\n")
        add_events(shell, check_event(number, score=score))
    assert shell("reset", "--to", "best", "--yes").code == 0
    assert (workspace / ID / "train.py").read_text() == "attempt = 2\n"
    shell("reset", "--to", "last", "--yes")
    assert (workspace / ID / "train.py").read_text() == "attempt = 3\n"
    assert shell("reset", "--to", "9", "--yes").code == 2


def test_a_solved_challenge_explains_and_opens_as_a_clean_replay(shell):
    workspace = open_first(shell)
    solved = {**check_event(1, score=100.0), "event": "submit", "verdict": "SOLVED", "points": 190}
    add_events(shell, solved)
    assert shell("explain", "--json").json["attempts"] == 1
    assert shell("status", "--json").json["points"] == 190
    (workspace / ID / "train.py").write_text("mine = 1\n")
    shell("goto", ID)
    assert "RATE = 10.0" in (workspace / ID / "train.py").read_text()
    (workspace / ID / "train.py").write_text("again = 1\n")
    shell("goto", ID)
    assert (workspace / ID / "train.py").read_text() == "again = 1\n"
    assert shell("status", "--json").json["solved"] == 1


def test_commands_work_from_inside_the_workspace(shell):
    workspace = open_first(shell)
    inside = type(shell)(workspace / ID, shell.data)
    assert inside("status", "--json").json["current"] == ID


def test_curve_draws_without_an_attempt(shell):
    open_first(shell)
    done = shell("curve")
    assert (done.code, "broken" in done.out) == (0, True)
    assert shell("curve", "--attempt", "4").code == 2
    assert shell("curve", "--json").json["broken"] == [[2.0, 2.5, 3.0]]


def test_an_ascii_stream_gets_twins_and_no_traceback(shell):
    done = shell("next", "--set", "tiny", "--plot", PYTHONIOENCODING="cp1252")
    assert done.code == 0, done.err
    assert ": reference, 2 seeds   x broken" in done.out


def test_no_colour_reaches_a_stream_that_is_no_terminal(shell):
    assert "\x1b" not in shell("next", "--plot").out
    assert "\x1b[" in shell("--color", "curve").out
    assert "\x1b" not in shell("curve", FORCE_COLOR="1", NO_COLOR="1").out


def test_mutate_lists_mutants_without_importing_torch(shell):
    program = Path(shell.here / "mine.py")
    program.write_text(
        "def fit(optimizer, loss):\n    optimizer.zero_grad()\n    loss.backward()\n    optimizer.step()\n"
    )
    done = shell("mutate", "mine.py", "--json", PYTHONPROFILEIMPORTTIME="1")
    assert done.code == 0
    assert " torch" not in done.err
    text = program.read_text()
    for mutant in done.json["mutants"]:
        for edit in mutant["edits"]:
            assert text[edit["start"] : edit["end"]] == edit["old"]
    key = done.json["mutants"][0]["key"]
    assert shell("mutate", "mine.py", "--key", key).out != text


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"def f(:\n", "line 1, column 7"),
        (b"x = 1\nprint 'two'\n", "line 2, column 1"),
        (b"\x7fELF\x00\x01\xff", "line 1"),
        (b"x = 1\n" * 50_000, "line 20,001"),
        (b"x = " + b"(" * 9000 + b")" * 9000, "line 1"),
    ],
    ids=["an open bracket", "python 2", "binary", "fifty thousand lines", "deeply nested"],
)
def test_mutate_of_what_is_no_bearable_python_is_code_2_with_the_place(shell, content, place):
    (shell.here / "mine.py").write_bytes(content)
    done = shell("mutate", "mine.py")
    assert (done.code, place in done.err, "Traceback" in done.err) == (2, True, False)


def test_mutate_of_an_empty_file_has_nothing_to_say(shell):
    (shell.here / "mine.py").write_bytes(b"")
    assert shell("mutate", "mine.py").code == 0


def test_set_list_counts_challenges(shell):
    sets = {s["name"]: s["challenges"] for s in shell("set", "list", "--json").json["sets"]}
    assert sets["tiny"] == 2


def test_doctor_never_fails(shell):
    workspace = open_first(shell)
    (workspace / ".bughunt" / "format").write_text("from the future\n")
    done = shell("doctor", "--json")
    assert done.code == 0
    assert {"tier", "missing"} <= done.json["sandbox"].keys()
    assert "error" in done.json["workspace"]


@pytest.mark.parametrize("words", [[], ["status"]], ids=["bughunt", "bughunt status"])
def test_start_up_imports_nothing_heavy(shell, words):
    done = shell(*words, PYTHONPROFILEIMPORTTIME="1")
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.err.splitlines()}
    assert not imported & {"torch", "numpy", "libcst", "rich.console", "pytest"}
    assert "click" in imported


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_completion_scripts_name_the_command(shell, name):
    done = shell("completion", name)
    assert (done.code, "_BUGHUNT_COMPLETE" in done.out) == (0, True)


def test_ids_are_completed(shell):
    done = shell(_BUGHUNT_COMPLETE="bash_complete", COMP_WORDS="bughunt goto bh-", COMP_CWORD="2")
    assert "bh-aaaaa1" in done.out
