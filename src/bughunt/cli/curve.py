"""The curves of an attempt, in the terminal or in TensorBoard."""

import socket
import subprocess
import sys

import click

from bughunt.cli.output import emit
from bughunt.cli.session import Session, id_argument, json_option
from bughunt.errors import MachineError, UsageError


@click.command("curve")
@id_argument
@click.option("--attempt", "number", type=int, help="Which attempt; the last one by default.")
@click.option("--tb", is_flag=True, help="Start TensorBoard on the runs and print its address.")
@click.option("--port", type=int, default=0, help="Port for --tb; 0 takes a free one.")
@json_option
@click.pass_obj
def curve_command(session: Session, id_: str | None, number: int | None, tb: bool, port: int) -> int | None:
    """Draw an attempt beside the reference band and the broken program."""
    if tb:
        return _serve(session, id_, port)
    from bughunt.play.attempt import stored_verdict
    from bughunt.show import screens
    from bughunt.show.plot import draw, legend

    challenge = session.current(id_)
    attempts = session.state().of(challenge.id).attempts
    chosen = number if number is not None else (attempts[-1]["attempt"] if attempts else None)
    verdict = stored_verdict(session.workspace, challenge.id, chosen) if chosen else None
    if number is not None and verdict is None:
        known = ", ".join(str(attempt["attempt"]) for attempt in attempts) or "none yet"
        raise UsageError(f"{challenge.id} has no attempt {number}", f"there are: {known}")
    curves = challenge.curves()
    measured = verdict is not None and bool(verdict.curves)
    picture = screens.with_yours(curves, verdict) if verdict and measured else screens.baseline(curves)
    if session.json:
        yours = picture.yours
        emit(
            "curve",
            challenge=challenge.id,
            attempt=chosen,
            name=challenge.curve,
            steps=list(curves.steps),
            reference=[list(run) for run in curves.reference],
            broken=[list(run) for run in curves.broken],
            yours={"steps": list(yours.steps), "values": list(yours.values)} if yours else None,
        )
        return None
    title = f"{challenge.id}  {challenge.curve}" + (f" · attempt {chosen}" if chosen else "")
    session.say(f"{title}   {legend(picture)}\n\n{draw(picture, session.screen.width)}")
    return None


def _serve(session: Session, id_: str | None, port: int) -> int:
    from bughunt.play.attempt import stored_verdict
    from bughunt.show import tensorboard

    challenge = session.current(id_)
    runs = session.workspace.runs
    tensorboard.write_baseline(runs, challenge)
    for event in session.state().of(challenge.id).attempts:
        number = event["attempt"]
        if not list((runs / challenge.id).glob(f"attempt-{number:03d}*")):
            verdict = stored_verdict(session.workspace, challenge.id, number)
            if verdict is not None:
                tensorboard.write_attempt(runs, challenge, number, verdict.curves)
    port = port or _free_port()
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(runs)]
    server = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _wait_until_it_answers(server, port)
        address = f"http://127.0.0.1:{port}/"
        if session.json:
            emit("curve", challenge=challenge.id, address=address, runs=str(runs))
        else:
            session.say(f"TensorBoard on {session.shown(runs)}: {address}   Ctrl-C stops it")
        return server.wait()
    finally:
        server.terminate()
        server.wait()


def _wait_until_it_answers(server: "subprocess.Popen[str]", port: int) -> None:
    import time

    while server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    said = server.stderr.read().strip().splitlines() if server.stderr else []
    raise MachineError(
        f"TensorBoard did not start: {said[-1] if said else 'no reason given'}",
        "python -m pip install tensorboard, or another --port",
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
