"""What the tokens of officials reach: a role has scopes, and a token may have fewer of them."""

from collections.abc import Iterable, Mapping

from bughunt_leaderboard.refusals import MalformedError

SCOPES: Mapping[str, str] = {
    "course": "rounds, pause, freeze, more time",
    "people": "invites, tokens, removing",
    "judging": "judging again, flags",
    "audit": "the audit log, the results as they are",
}
OF_ROLE: Mapping[str, frozenset[str]] = {
    "observer": frozenset(),  # sees the board as it is
    "judge": frozenset({"judging"}),
    "admin": frozenset(SCOPES),
}
OFFICIALS = tuple(OF_ROLE)


def narrowed(role: str, wanted: Iterable[str]) -> frozenset[str]:
    """The scopes of a token: those that are wanted, all of the role's where none are; MalformedError."""
    if role not in OF_ROLE:
        raise MalformedError(f"no role {role}", f"one of {', '.join(OFFICIALS)}")
    asked = frozenset(wanted) or OF_ROLE[role]
    if beyond := sorted(asked - OF_ROLE[role]):
        raise MalformedError(
            f"a token of role {role} cannot have the scope {', '.join(beyond)}",
            f"it may have {', '.join(sorted(OF_ROLE[role])) or 'none'}",
        )
    return asked
