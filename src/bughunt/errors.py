"""Everything that bughunt can refuse to do, as one tree.

BughuntError                   1
├── UsageError                 2   wrong words on the command line, an unknown id
├── MachineError               3   torch missing, a workspace that cannot be read or written
├── LimitError                 4   time, memory or output ran out
└── IntegrityError             5   a set, a sealed file or a read-only file is damaged

Each class carries the exit code; each message names the thing and the remedy.
"""


class BughuntError(Exception):
    """A refusal that the player can act on; `remedy` says how."""

    exit_code = 1
    code = "error"

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class UsageError(BughuntError):
    """The command was given something that does not exist or does not fit."""

    exit_code = 2
    code = "usage"


class MachineError(BughuntError):
    """The machine or the workspace lacks what the command needs."""

    exit_code = 3
    code = "environment"


class LimitError(BughuntError):
    """A budget ran out before there was an answer."""

    exit_code = 4
    code = "limit"


class IntegrityError(BughuntError):
    """A file that only bughunt writes is not as it was written."""

    exit_code = 5
    code = "integrity"
