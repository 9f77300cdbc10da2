"""What this machine can do, and completion for its shell."""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable

import click

from bughunt import __version__
from bughunt.cli.output import emit, write
from bughunt.cli.session import Session, json_option

Facts = dict[str, object]


@click.command("doctor")
@json_option
@click.pass_obj
def doctor_command(session: Session) -> None:
    """One block of facts for a bug report; changes nothing."""
    facts = {name: _asked(look, session) for name, look in LOOKS.items()}
    if session.json:
        emit("doctor", **facts)
        return
    for name, found in facts.items():
        told = ", ".join(f"{key} {_said(value)}" for key, value in found.items())
        session.say(f"{name:<10s} {told}")


def _said(value: object) -> str:
    if isinstance(value, list):
        return "; ".join(str(part) for part in value) or "none"
    words = {True: "yes", False: "no", None: "none"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


def _asked(look: Callable[[Session], Facts], session: Session) -> Facts:
    """A look that fails is a finding; the doctor herself never falls ill."""
    try:
        return look(session)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def _bughunt(_session: Session) -> Facts:
    return {"version": __version__, "python": platform.python_version(), "system": platform.platform()}


def _torch(_session: Session) -> Facts:
    import importlib.util

    if importlib.util.find_spec("torch") is None:
        return {"installed": False, "remedy": "python -m pip install torch"}
    import torch

    return {
        "installed": True,
        "version": torch.__version__,
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.is_available(),
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def _terminal(session: Session) -> Facts:
    screen = session.screen
    return {
        "encoding": sys.stdout.encoding,
        "width": screen.width,
        "color": screen.color,
        "ascii": screen.ascii,
        "tty": screen.tty,
    }


def _workspace(session: Session) -> Facts:
    workspace = session.workspace
    facts: Facts = {"path": str(workspace.root), "exists": workspace.exists}
    if workspace.exists:
        workspace.check_format()
        facts["writable"] = os.access(workspace.root, os.W_OK)
        facts["events"] = len(workspace.log.read()[0])
    return facts


def _sets(_session: Session) -> Facts:
    from bughunt.bugsets import library

    return {found.name: len(found.order) for found in library.sets()}


def _sandbox(_session: Session) -> Facts:
    """What the judge can fence a program in with on this machine, found out by trying it."""
    trial = [sys.executable, "-P", "-m", "bughunt.judge.sandbox.tier"]
    done = subprocess.run(trial, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        return {"tier": "none", "missing": [done.stderr.strip().rpartition("\n")[2]]}
    found = json.loads(done.stdout)
    missing = [f"{tier}: {why}" for tier, why in found["lacking"].items()]
    return {"tier": found["tier"], "missing": missing, "bubblewrap": shutil.which("bwrap") is not None}


LOOKS: dict[str, Callable[[Session], Facts]] = {
    "bughunt": _bughunt,
    "torch": _torch,
    "sandbox": _sandbox,
    "terminal": _terminal,
    "workspace": _workspace,
    "sets": _sets,
}


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> None:
    """Print the completion script of a shell: eval "$(bughunt completion bash)"."""
    from click.shell_completion import get_completion_class

    from bughunt.cli.root import root

    found = get_completion_class(shell)
    if found is not None:
        write(found(root, {}, "bughunt", "_BUGHUNT_COMPLETE").source())
