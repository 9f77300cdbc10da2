"""`bughunt`: run one command and turn every refusal into one line, a remedy and an exit code.

0 done or passed; 1 not solved; 2 usage; 3 environment; 4 a limit; 5 integrity; 130 Ctrl-C; 141 the reader of
the output has gone.
"""

import errno
import os
import sys
from collections.abc import Sequence

import click

from bughunt.cli.output import show_error
from bughunt.cli.root import root
from bughunt.errors import BughuntError, MachineError, UsageError

INTERRUPTED, PIPE_CLOSED = 130, 141
COMPLETE = "_BUGHUNT_COMPLETE"
REMEDIES = {
    errno.ENOSPC: "free some space and run the command again; what was written before is whole",
    errno.EDQUOT: "free some space and run the command again; what was written before is whole",
    errno.EACCES: "choose a folder you may write to: bughunt --workspace DIR",
    errno.EPERM: "choose a folder you may write to: bughunt --workspace DIR",
    errno.EROFS: "choose a folder you may write to: bughunt --workspace DIR",
}


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """One command; whatever goes wrong, an exit code."""
    as_json = "--json" in arguments
    try:
        return _finished(_invoke(list(arguments)))
    except BrokenPipeError:
        _forget_stdout()
        return PIPE_CLOSED
    except (KeyboardInterrupt, click.Abort) as stop:
        show_error(BughuntError(str(stop) or "stopped", ""), as_json, code="interrupted")
        return INTERRUPTED
    except Exception as error:
        refusal = refused(error)
        show_error(refusal, as_json)
        return refusal.exit_code


def _invoke(arguments: list[str]) -> int:
    if COMPLETE in os.environ:
        from click.shell_completion import shell_complete

        return shell_complete(root, {}, "bughunt", COMPLETE, os.environ[COMPLETE])
    try:
        with root.make_context("bughunt", arguments) as context:
            result = root.invoke(context)
            context.exit(result if isinstance(result, int) else 0)
    except click.exceptions.Exit as end:
        return end.exit_code


def _finished(code: int) -> int:
    sys.stdout.flush()
    return code


def refused(error: Exception) -> BughuntError:
    """Any exception as a refusal that names the thing and the remedy."""
    if isinstance(error, BughuntError):
        return error
    if isinstance(error, click.ClickException):
        context = error.ctx if isinstance(error, click.UsageError) else None
        command = context.command_path if context else "bughunt"
        return UsageError(error.format_message(), f"{command} --help")
    if isinstance(error, ModuleNotFoundError) and not (error.name or "bughunt").startswith("bughunt"):
        return MachineError(
            f"{error.name} is not installed in this environment ({sys.executable})",
            f"python -m pip install {error.name}",
        )
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return MachineError(
            f"{where}{error.strerror or error}", REMEDIES.get(error.errno or 0, "bughunt doctor")
        )
    if os.environ.get("BUGHUNT_DEBUG"):
        raise error
    return MachineError(
        f"{type(error).__name__}: {error} (a fault in bughunt, not in your code)",
        "please report it with the output of: BUGHUNT_DEBUG=1 bughunt ...",
    )


def _forget_stdout() -> None:
    """What is still buffered has no reader; without this Python complains at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
