"""How much of a program is not as it was handed out."""

from collections.abc import Mapping


def changed_lines(original: Mapping[str, str], files: Mapping[str, str]) -> dict[str, int]:
    """How many lines of each file are not as they were handed out."""
    import difflib

    counts = {}
    for name, text in files.items():
        before, after = original.get(name, "").splitlines(), text.splitlines()
        blocks = difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
        count = sum(max(b - a, d - c) for tag, a, b, c, d in blocks if tag != "equal")
        if count:
            counts[name] = count
    return counts
