"""What somebody who has just joined asks: which versions run here, what time it is, and for the warm-up."""

import platform
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI

from bughunt import __version__
from bughunt_leaderboard import clock
from bughunt_leaderboard.arena import Known, Shared
from bughunt_leaderboard.bundle import variant
from bughunt_leaderboard.refusals import UnknownError
from bughunt_leaderboard.warmup import WARM_UP, warm_up


def add_arrival(app: FastAPI) -> None:
    @app.get("/api/v1/server")
    async def server() -> dict[str, Any]:
        """The versions that programs are judged with, and the server's clock in milliseconds."""
        return {
            "bughunt": __version__, "torch": version("torch"), "python": platform.python_version(),
            "now": clock.now(),
        }  # fmt: skip

    @app.get("/api/v1/warm-up")
    def warming(arena: Shared, person: Known) -> dict[str, Any]:
        """A program that may be sent at any time to see that the way is clear; it never counts."""
        if person.team is None:
            raise UnknownError("only teams have a warm-up", "bughunt join URL TOKEN")
        return {"challenge": WARM_UP, "files": variant(warm_up(), arena.folder, person.team)}
