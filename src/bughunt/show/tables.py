"""Tables and bars as plain text; light, so that commands which only list start quickly."""

from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]], indent: int = 2, width: int | None = None) -> str:
    """Columns as wide as their widest cell; the last one is folded at `width`, or runs free."""
    if not rows:
        return ""
    widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]) - 1)]
    margin = indent + sum(widths) + 2 * len(widths)
    room = max(20, width - margin) if width else None
    if room:
        import textwrap  # commands that fold nothing start without it
    lines = []
    for *cells, last in rows:
        first, *more = textwrap.wrap(last, room) or [""] if room else [last]
        told = [*(f"{cell:<{w}s}" for cell, w in zip(cells, widths, strict=True)), first]
        lines.append((" " * indent + "  ".join(told)).rstrip())
        lines += [" " * margin + line for line in more]
    return "\n".join(lines)


def bar(done: int, total: int, width: int = 20) -> str:
    filled = round(width * done / total) if total else 0
    return "[" + "#" * filled + "-" * (width - filled) + f"] {done}/{total}"
