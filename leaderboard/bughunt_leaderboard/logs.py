"""The server's log: a JSON object a line, in the competition's folder and never with a token in it."""

import json
import logging
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from bughunt_leaderboard import clock

FILE = "server.log"
BYTES, FILES = 20_000_000, 5
NAMES = ("bughunt.server", "uvicorn.error")


class Lines(logging.Formatter):
    """A message that is a mapping gives the fields of its line."""

    def format(self, record: logging.LogRecord) -> str:
        about: dict[str, Any] = {
            "at": clock.shown(int(record.created * 1000)),
            "level": record.levelname.lower(),
        }
        about |= record.msg if isinstance(record.msg, dict) else {"message": record.getMessage()}
        if record.exc_info:
            about["error"] = self.formatException(record.exc_info)
        return json.dumps(about)


def log_to(folder: Path) -> None:
    """Write what the server says to a file that is begun anew when it is long; the last few are kept."""
    handler = RotatingFileHandler(folder / FILE, maxBytes=BYTES, backupCount=FILES, delay=True)
    handler.setFormatter(Lines())
    for name in NAMES:
        logging.getLogger(name).addHandler(handler)
    logging.getLogger(NAMES[0]).setLevel(logging.INFO)
