"""Topics of the curriculum that no program is about."""

from collections.abc import Mapping

# Practised with a command and on whatever program.
BY_COMMAND: Mapping[str, str] = {
    "S29": "next",  # debugging scenarios in existing implementations
    "S47": "check",  # too much theory, too little implementation
    "S50": "note",  # communication: what was seen and suspected, in words
    "S52": "next",  # misread requirements: the brief says what is asked
    "S69": "submit",  # identify and fix
}

# Neither a program nor a command yet.
UNCOVERED: Mapping[str, str] = {
    "S5": "collaboration and project experience",
    "S42": "mock interviews and weak areas",
    "S44": "a repository of one's own",
    "S45": "feedback from practitioners",
    "S46": "breadth and depth",
    "S48": "implementation without principles",
    "S51": "time management",
    "S53": "unasked assumptions",
    "S54": "alternatives and trade-offs",
}
