"""People who compete."""

from bughunt_leaderboard.people import Person
from bughunt_leaderboard.referee import Referee

HOUR = 3_600_000  # milliseconds


def join(referee: Referee, team: str, member: str = "ada") -> Person:
    """The founder of a team."""
    return referee.join(referee.invite("host", team), member)[1]
