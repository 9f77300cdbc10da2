"""The tailor: makes the texts of the invited teams before they ask, beside the server.

Runs as `python -m bughunt_leaderboard.tailor DIR`. What it has not made yet is made when a team asks.
"""

import os
import sys
import threading
from pathlib import Path

from bughunt_leaderboard.bundle import variant
from bughunt_leaderboard.folder import Folder
from bughunt_leaderboard.referee import Referee
from bughunt_leaderboard.store import Store
from bughunt_leaderboard.worker import obey

LOOK = 5.0  # seconds between two looks at who is invited
NICE = 10


def expected(referee: Referee) -> int:
    """How many teams there are, and are invited."""
    invited = {one["name"] for one in referee.tokens() if one["role"] == "invite" and not one["revoked"]}
    return len(invited | {team.name for team in referee.fresh().teams.values()})


def main() -> None:
    os.nice(NICE)
    folder, stopping = Folder.load(Path(sys.argv[1])), threading.Event()
    referee, challenges, made = Referee(Store(folder.database)), folder.judged().values(), 0
    obey(lambda *_: stopping.set())
    while not stopping.is_set():
        if made >= expected(referee):
            stopping.wait(LOOK)
            continue
        made += 1
        for challenge in challenges:
            if not stopping.is_set():
                variant(challenge, folder, made)


if __name__ == "__main__":
    main()
