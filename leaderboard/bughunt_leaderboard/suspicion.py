"""What a person should look at: alike submissions and files in another team's words, challenge by challenge.

Programs of strangers are parsed for it, so it runs for `bughunt admin`, never in the server.
"""

from typing import Any

from bughunt_leaderboard.bundle import text_of
from bughunt_leaderboard.folder import Folder
from bughunt_leaderboard.likeness import Sent, dump, marked, pairs
from bughunt_leaderboard.people import Person
from bughunt_leaderboard.referee import Referee

LOOKED_AT = ("SOLVED", "FLAGGED", "WORKAROUND", "PARTIAL")
DESK = Person(0, "admin")


def suspicion(referee: Referee, folder: Folder) -> list[dict[str, Any]]:
    """For each challenge the pairs and the marked files; challenges without any are left out."""
    state, found = referee.fresh(), []
    for id_, challenge in folder.challenges().items():
        texts = {team: text_of(challenge, folder, team) for team in state.teams}
        sent = [
            Sent(one.id, one.team, referee.files(DESK, one.id), texts[one.team].files, texts[one.team].words)
            for one in list(state.submissions.values())
            if one.challenge == id_ and one.outcome in LOOKED_AT
        ]
        program = challenge.program()
        alike = dump(pairs(sent, program, challenge.sealed().repaired)) if len(sent) > 1 else []
        handed_out = {team: one.files for team, one in texts.items()}
        foreign = dump(marked(sent, handed_out, program)) if sent else []
        if alike or foreign:
            found.append({"challenge": id_, "pairs": alike, "marked": foreign})
    return found
