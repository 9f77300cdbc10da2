"""The pool of judging processes: nothing of it survives the command that started it."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from processes import descendants, is_running, wait_until

from bughunt import references
from bughunt.bugsets.evaluate import Job

COMMAND = """
import sys
from bughunt import references
from bughunt.bugsets.evaluate import Evaluator, Job

if __name__ == "__main__":
    files = dict(references.load("kmeans-pp").files)
    files["train.py"] += "\\nimport time\\nprint('asleep', flush=True)\\ntime.sleep(1000)\\n"
    with Evaluator(1) as evaluate:
        evaluate([Job("kmeans-pp", "default", files, curve_seeds=[1])])
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["terminated", "killed"])
def test_nothing_survives_the_death_of_the_command(tmp_path: Path, number: int) -> None:
    script = tmp_path / "command.py"
    script.write_text(COMMAND)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = os.environ | {"TMPDIR": str(scratch), "XDG_CACHE_HOME": str(tmp_path)}
    command = subprocess.Popen([sys.executable, str(script)], env=environment)
    try:
        # the pool's process, its resource tracker, the zygote and its worker
        assert wait_until(lambda: len([*descendants(command.pid)]) >= 4)
        others = [*descendants(command.pid)]
    finally:
        command.send_signal(number)
        command.wait()
    assert wait_until(lambda: not any(map(is_running, others)))
    assert not list(scratch.glob("bughunt-*"))


def test_what_runs_no_tests_is_remembered_whatever_they_are(tmp_path, monkeypatch):
    known = references.load("kmeans-pp")
    jobs = [
        Job("kmeans-pp", "default", known.files, tests=tests, fingerprint=not tests)
        for tests in (False, True)
    ]
    before = [job.key() for job in jobs]
    (tmp_path / "test_behaviour.py").write_text("def test_something_else(program): pass\n")
    other = replace(known, test_path=tmp_path / "test_behaviour.py")
    monkeypatch.setattr(references, "load", lambda _: other)
    assert [job.key() == key for job, key in zip(jobs, before, strict=True)] == [True, False]
