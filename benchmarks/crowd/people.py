"""Teams with tokens, made at the referee's desk rather than over the wire."""

from bughunt_leaderboard.referee import Referee
from bughunt_leaderboard.store import Store


def tokens(store: Store, teams: int) -> list[str]:
    """The captain's token of each of so many new teams."""
    referee = Referee(store)
    return [referee.join(referee.invite("host", f"Team {n}"), "ada")[0] for n in range(1, teams + 1)]
