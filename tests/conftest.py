"""A small bug set written by hand, and the real command in a real process."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from bughunt.bugsets.sealed import Sealed

# The same examples every time, and no limit on how long one takes: a machine may stand still.
settings.register_profile(
    "steady",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("steady")

BROKEN = """\
RATE = 10.0


def improve(x):
    return x + RATE * x
"""
REPAIRED = BROKEN.replace("x + RATE", "x - RATE").replace("10.0", "0.1")


def sealed(**changes: object) -> Sealed:
    fields: dict[str, object] = {
        "reference": "trainer-loop",
        "operators": ["sign-flipped"],
        "rows": ["sign-flipped"],
        "category": "optimiser",
        "hints": ["Look at the norm.", "It is in improve.", "Which way does it walk?"],
        "post_mortem": "It walked uphill.",
        "evidence": ["https://example.org/issue/1"],
        "repaired": {"train.py": REPAIRED},
        "where": ["train.py:improve"],
        "fail_to_pass": ["test_it_descends"],
        "pass_to_pass": ["test_it_runs"],
        "seeds": [11, 12, 13, 14, 15],
        "label": "visible",
        "provenance": {},
    }
    return Sealed(**{**fields, **changes})  # type: ignore[arg-type]


def write_challenge(
    folder: Path,
    *,
    title: str = "The loss climbs",
    level: int = 2,
    program: str = BROKEN,
    secret: Sealed | None = None,
    curves: Mapping[str, object] | None = None,
) -> None:
    folder.mkdir(parents=True)
    fields: dict[str, object] = {
        "format_version": 1,
        "id": folder.name,
        "title": title,
        "reference": (secret or sealed()).reference,
        "configuration": "default",
        "level": level,
        "minutes": 15,
        "metric": "accuracy",
        "curve": "held-out loss",
        "steps": 100,
        "tests": 2,
        "bugs": 1,
    }
    toml = "".join(f"{key} = {json.dumps(value)}\n" for key, value in fields.items())
    (folder / "challenge.toml").write_text(toml)
    (folder / "train.py").write_bytes(program.encode())
    (folder / "brief.md").write_text("# Report\n\nThe loss climbs. Nobody knows why.\n")
    (folder / "curves.json").write_text(json.dumps(curves or CURVES))
    (folder / "sealed.dat").write_bytes((secret or sealed()).dump())


CURVES = {
    "steps": [0, 50, 100],
    "reference": [[2.0, 1.0, 0.5], [2.1, 1.1, 0.6]],
    "broken": [[2.0, 2.5, 3.0]],
    "reference_metric": [0.9, 0.91],
    "broken_metric": [0.1],
    "seeds": [11, 12],
}


@dataclass(frozen=True)
class Finished:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, object]:
        return json.loads(self.out)


@dataclass(frozen=True)
class Shell:
    """A place to run commands in: its own data folder, its own current folder."""

    here: Path
    data: Path

    @property
    def sets(self) -> Path:
        return self.data / "bughunt" / "bugs"

    def environment(self, **more: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("BUGHUNT", "NO_COLOR"))}
        fixed = {
            "XDG_DATA_HOME": str(self.data),
            "OMP_NUM_THREADS": "1",
            "PYTHONIOENCODING": "utf-8",
            "PYTHONWARNINGS": "ignore",
            "COLUMNS": "80",
        }
        return {**kept, **fixed, **more}

    def __call__(self, *words: str, stdin: str = "", **environment: str) -> Finished:
        done = subprocess.run(
            [sys.executable, "-m", "bughunt", *words],
            cwd=self.here,
            env=self.environment(**environment),
            input=stdin,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=300,
        )
        return Finished(done.returncode, done.stdout, done.stderr)


def write_set(folder: Path, *ids: str) -> None:
    order = ", ".join(f'"{id_}"' for id_ in ids)
    (folder / "set.toml").write_text(f'title = "Tiny"\nformat_version = 1\nchallenges = [{order}]\n')


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    here, data = tmp_path / "here", tmp_path / "data"
    here.mkdir()
    made = Shell(here, data)
    tiny = made.sets / "tiny"
    write_challenge(tiny / "bh-aaaaa1")
    write_challenge(tiny / "bh-aaaaa2", title="The loss stays", level=4)
    write_set(tiny, "bh-aaaaa1", "bh-aaaaa2")
    return made


@pytest.fixture
def make_challenge() -> Callable[..., None]:
    return write_challenge


@pytest.fixture
def make_sealed() -> Callable[..., Sealed]:
    return sealed
