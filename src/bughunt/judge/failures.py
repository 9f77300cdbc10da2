"""What a worker says of an exception: its kind, and the place in the program's own files."""

from pathlib import Path

import torch

from bughunt.judge.reading import UnreadableError

MESSAGE_LENGTH = 2000


class ContractError(Exception):
    """The program lacks a name, or gives something of the wrong kind."""


def describe(error: BaseException, folder: Path) -> dict[str, str]:
    """Kind, message and place of a failure, the place in the program's own files."""
    place = place_of(error, folder)
    return {"kind": kind_of(error, place), "message": message_of(error), "place": place}


def kind_of(error: BaseException, place: str) -> str:
    if isinstance(error, ContractError):
        return "contract"
    if isinstance(error, UnreadableError):
        return "syntax"
    if isinstance(error, SystemExit):
        return "exit"
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error):
        return "memory"
    if isinstance(error, TypeError) and not place:  # the call itself did not fit
        return "contract"
    return "error"


def message_of(error: BaseException) -> str:
    text = str(error)
    if not isinstance(error, ContractError | UnreadableError):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text[:MESSAGE_LENGTH].encode("utf-8", "replace").decode()


def place_of(error: BaseException, folder: Path) -> str:
    """`train.py:31 in build` for the innermost frame in the program; empty where there is none."""
    place, trace = "", error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename.startswith(f"{folder}/"):
            place = f"{code.co_filename[len(str(folder)) + 1 :]}:{trace.tb_lineno} in {code.co_name}"
        trace = trace.tb_next
    if isinstance(error, SyntaxError) and str(error.filename).startswith(f"{folder}/"):
        place = f"{str(error.filename)[len(str(folder)) + 1 :]}:{error.lineno}"
    return place.removesuffix(" in <module>")
