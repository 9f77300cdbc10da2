"""Check and submit through the real judge, on one reference program with one line deleted."""

import json
import signal
import subprocess
import sys
import time

import pytest
from processes import descendants, is_running, wait_until

from bughunt import references
from bughunt.judge.judge import Judge

ID = "bh-bbbbb1"
PASSES = ["test_predictions_are_log_probabilities", "test_the_network_is_not_linear"]
FAILS = ["test_gradients_belong_to_one_batch"]
LINE = "        optimizer.zero_grad()\n"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def curves():
    """Measured anew, because what agrees with them is judged."""
    reference = references.load("trainer-loop")
    with Judge() as judge:
        healthy = [judge.measure(reference.files, reference.task, seed) for seed in (1, 2, 3, 4)]
        sick = judge.measure({"train.py": broken()}, reference.task, 1)
    return {
        "steps": list(healthy[0].steps),
        "reference": [list(curve.values) for curve in healthy],
        "broken": [list(sick.values)],
        "reference_metric": [curve.metrics[-1] for curve in healthy],
        "broken_metric": [sick.metrics[-1]],
        "seeds": [1, 2, 3, 4],
    }


def broken():
    """The program without the line that forgets the gradients of earlier batches."""
    text = references.load("trainer-loop").files["train.py"]
    assert text.count(LINE) == 1
    return text.replace(LINE, "")


@pytest.fixture
def judged(shell, make_challenge, make_sealed, curves):
    """A challenge on that program, opened."""
    text = references.load("trainer-loop").files["train.py"]
    secret = make_sealed(repaired={"train.py": text}, fail_to_pass=FAILS, pass_to_pass=PASSES, label="silent")
    folder = shell.sets / "judged" / ID
    make_challenge(folder, program=broken(), secret=secret, curves=curves)
    (folder.parent / "set.toml").write_text(f'title = "Judged"\nchallenges = ["{ID}"]\n')
    assert shell("goto", ID).code == 0
    return shell.here / "hunt" / ID / "train.py"


def test_the_broken_program_is_not_solved_and_the_repaired_one_is(shell, judged):
    done = shell("check", "--tests", "--json")
    assert (done.code, done.json["passed"]) == (1, False), done.out + done.err
    assert done.json["tests"]["passed"] == 2
    told = {test["name"].rsplit("::", 1)[-1]: test for test in done.json["tests"]["results"]}
    assert not told[FAILS[0]]["passed"]

    judged.write_text(references.load("trainer-loop").files["train.py"])
    done = shell("submit", "--json")
    assert done.json["verdict"] == "SOLVED", done.out
    assert (done.code, done.json["attempt"], done.json["score"]) == (0, 2, 100.0)
    assert done.json["points"] == 200
    assert shell("explain", "--json").json["state"] == "solved"
    runs = shell.here / "hunt" / "runs" / ID
    assert {"reference-0", "broken-0", "attempt-002-1"} <= {path.name for path in runs.iterdir()}
    assert "yours" in shell("curve").out


def test_the_players_exception_is_shown_with_its_place(shell, judged):
    judged.write_text(judged.read_text() + "\nraise RuntimeError('mine')\n")
    done = shell("check")
    assert done.code == 1
    assert "mine" in done.out
    assert "train.py" in done.out
    assert "Traceback" not in done.err


def test_ctrl_c_stops_the_check_counts_nothing_and_leaves_no_process(shell, judged):
    text = judged.read_text()
    judged.write_text(
        text.replace("def build(", "import time\n\n\ndef build(", 1).replace(
            "    model = Reader(cfg)\n", "    time.sleep(600)\n    model = Reader(cfg)\n", 1
        )
    )
    running = subprocess.Popen(
        [sys.executable, "-m", "bughunt", "check"],
        cwd=shell.here,
        env=shell.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert wait_until(lambda: len([*descendants(running.pid)]) >= 2)
    time.sleep(12)  # from a fence without a program to a program that sleeps
    assert running.poll() is None
    children = [*descendants(running.pid)]
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "not counted" in said
    assert "Traceback" not in said
    assert wait_until(lambda: not any(map(is_running, children)), seconds=5)
    assert shell("status", "--json").json["state"] == "started"
    log = (shell.here / "hunt" / ".bughunt" / "log.jsonl").read_text()
    assert "check" not in [json.loads(line)["event"] for line in log.splitlines()]
